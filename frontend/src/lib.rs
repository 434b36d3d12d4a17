//! The desktop's pure core: places, forms, units. It knows neither the browser
//! nor the server and is tested on any machine. The page itself is `main.rs`,
//! built with the feature `browser`.

pub mod form;
pub mod period;
pub mod place;
pub mod retry;
pub mod units;
