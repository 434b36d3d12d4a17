//! The ledger in SQL.

use std::collections::BTreeMap;

use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, Row, Transaction};

use api::usage::{Bill, Meter, UsageBatch, UsageFact, UsageLine};

use crate::price::{self, CURRENCY, Price};
use crate::reading::{Counted, Step, step};
use crate::{Error, sql};

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Readings that were counted.
    pub counted: usize,
    /// Readings that had been counted before.
    pub known: usize,
    /// Readings that were less than the one before.
    pub backwards: usize,
}

/// The ledger. Clones share their connections.
#[derive(Clone)]
pub struct Ledger {
    pool: AnyPool,
}

impl Ledger {
    /// Opens the ledger at `sqlite:<path>` or `postgres://...`, makes it when it
    /// isn't there, and brings it up to date.
    pub async fn open(url: &str) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let lite = url.starts_with("sqlite:");
        let url = if lite && !url.contains('?') { format!("{url}?mode=rwc") } else { url.to_owned() };
        let pool = AnyPoolOptions::new()
            // SQLite has one writer at a time: waiting here is fairer than there.
            .max_connections(if lite { 1 } else { 8 })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if lite {
                        for setting in [
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = FULL",
                            "PRAGMA foreign_keys = ON",
                            "PRAGMA busy_timeout = 10000",
                        ] {
                            sqlx::query(setting).execute(&mut *connection).await?;
                        }
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(Error::Open)?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        let ledger = Self { pool };
        ledger.put_first_prices().await?;
        Ok(ledger)
    }

    async fn put_first_prices(&self) -> Result<(), Error> {
        for price in price::first() {
            sqlx::query(
                "INSERT INTO price (meter, from_minute, atto) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING",
            )
            .bind(price.meter.name())
            .bind(price.atto)
            .execute(&self.pool)
            .await
            .map_err(sql("writing the first prices"))?;
        }
        Ok(())
    }

    /// Sets what a meter costs from a minute to come on.
    pub async fn set_price(&self, price: Price, now_minute: u64) -> Result<(), Error> {
        if price.from_minute <= now_minute {
            return Err(Error::PriceInThePast(price.from_minute));
        }
        sqlx::query(
            "INSERT INTO price (meter, from_minute, atto) VALUES ($1, $2, $3) \
             ON CONFLICT (meter, from_minute) DO UPDATE SET atto = excluded.atto",
        )
        .bind(price.meter.name())
        .bind(number("the minute", price.from_minute)?)
        .bind(price.atto)
        .execute(&self.pool)
        .await
        .map_err(sql("writing a price"))?;
        Ok(())
    }

    /// All prices, also those that have passed.
    pub async fn prices(&self) -> Result<Vec<Price>, Error> {
        let rows = sqlx::query("SELECT meter, from_minute, atto FROM price ORDER BY meter, from_minute")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("reading prices"))?;
        rows.iter()
            .map(|row| {
                Ok(Price {
                    meter: meter(row)?,
                    from_minute: unsigned(row.try_get("from_minute").map_err(sql("reading prices"))?)?,
                    atto: row.try_get("atto").map_err(sql("reading prices"))?,
                })
            })
            .collect()
    }

    /// Counts what an agent sent. All of it or nothing: when it fails, it is sent
    /// again, and what was counted counts once.
    pub async fn ingest(&self, batch: &UsageBatch) -> Result<Ingested, Error> {
        let prices = self.prices().await?;
        let mut ingested = Ingested::default();
        let mut transaction = self.pool.begin().await.map_err(sql("beginning a transaction"))?;
        let mut facts: Vec<&UsageFact> = batch.facts.iter().collect();
        // In this order no two batches wait for each other's rows, and a source's
        // minutes come one after the other.
        facts.sort_by_key(|fact| (&fact.object, fact.meter, fact.minute));
        for fact in facts {
            match count(&mut transaction, batch, fact, &prices).await? {
                Step::More(_) => ingested.counted += 1,
                Step::Known => ingested.known += 1,
                Step::Backwards => {
                    tracing::warn!(
                        node = batch.node,
                        object = fact.object,
                        meter = fact.meter.name(),
                        "a counter ran backwards and was not counted"
                    );
                    ingested.backwards += 1;
                }
            }
        }
        transaction.commit().await.map_err(sql("committing usage"))?;
        Ok(ingested)
    }

    /// What each object of a workspace used, and what it costs, in the hours that
    /// begin within `from_minute..to_minute`.
    pub async fn usage(
        &self,
        workspace: &str,
        from_minute: u64,
        to_minute: u64,
    ) -> Result<Vec<UsageLine>, Error> {
        let lines = self.sums(workspace, from_minute, to_minute, |row| row.try_get("name")).await?;
        Ok(lines.into_iter().map(|((name, meter), sum)| sum.line(name, meter)).collect())
    }

    /// A workspace's bill for that time. Its sum is the sum of its lines.
    pub async fn bill(&self, workspace: &str, from_minute: u64, to_minute: u64) -> Result<Bill, Error> {
        let sums = self.sums(workspace, from_minute, to_minute, |_| Ok(String::new())).await?;
        let lines: Vec<UsageLine> =
            sums.into_iter().map(|((name, meter), sum)| sum.line(name, meter)).collect();
        Ok(Bill {
            workspace: workspace.into(),
            from_minute,
            to_minute,
            currency: CURRENCY.into(),
            total_micros: lines.iter().map(|line| line.charge_micros).sum(),
            lines,
        })
    }

    async fn sums(
        &self,
        workspace: &str,
        from_minute: u64,
        to_minute: u64,
        name: impl Fn(&AnyRow) -> Result<String, sqlx::Error>,
    ) -> Result<BTreeMap<(String, Meter), Sum>, Error> {
        let reading = || sql("reading usage");
        let rows = sqlx::query(
            "SELECT name, meter, quantity, charge FROM usage WHERE workspace = $1 AND hour >= $2 AND hour < $3",
        )
        .bind(workspace)
        .bind(number("the time", from_minute / 60)?)
        .bind(number("the time", to_minute.div_ceil(60))?)
        .fetch_all(&self.pool)
        .await
        .map_err(reading())?;
        let mut sums: BTreeMap<(String, Meter), Sum> = BTreeMap::new();
        for row in &rows {
            let sum = sums.entry((name(row).map_err(reading())?, meter(row)?)).or_default();
            sum.quantity += unsigned(row.try_get("quantity").map_err(reading())?)?;
            sum.charge += atto(row)?;
        }
        Ok(sums)
    }
}

#[derive(Default)]
struct Sum {
    quantity: u64,
    charge: i128,
}

impl Sum {
    fn line(&self, name: String, meter: Meter) -> UsageLine {
        UsageLine { name, meter, quantity: self.quantity, charge_micros: price::round(self.charge) }
    }
}

/// Counts one reading: the source's last one moves on, and the hour grows.
async fn count(
    transaction: &mut Transaction<'static, Any>,
    batch: &UsageBatch,
    fact: &UsageFact,
    prices: &[Price],
) -> Result<Step, Error> {
    let action = || sql("counting usage");
    // Two servers may get the same batch: reading the row by writing it makes the
    // other one wait.
    let row = sqlx::query(
        "INSERT INTO source (cluster, node, epoch, object, meter, workspace, minute, reading) \
         VALUES ($1, $2, $3, $4, $5, $6, -1, 0) \
         ON CONFLICT (cluster, node, epoch, object, meter) DO UPDATE SET minute = source.minute \
         RETURNING minute, reading",
    )
    .bind(&batch.cluster)
    .bind(&batch.node)
    .bind(&batch.epoch)
    .bind(&fact.object)
    .bind(fact.meter.name())
    .bind(&fact.workspace)
    .fetch_one(&mut **transaction)
    .await
    .map_err(action())?;
    let minute: i64 = row.try_get("minute").map_err(action())?;
    let reading: i64 = row.try_get("reading").map_err(action())?;
    let before = match u64::try_from(minute) {
        Ok(minute) => Some(Counted { minute, reading: unsigned(reading)? }),
        Err(_) => None,
    };
    let step = step(before, fact.minute, fact.reading);
    let Step::More(more) = step else { return Ok(step) };
    sqlx::query(
        "UPDATE source SET minute = $6, reading = $7 \
         WHERE cluster = $1 AND node = $2 AND epoch = $3 AND object = $4 AND meter = $5",
    )
    .bind(&batch.cluster)
    .bind(&batch.node)
    .bind(&batch.epoch)
    .bind(&fact.object)
    .bind(fact.meter.name())
    .bind(number("the minute", fact.minute)?)
    .bind(number("a reading", fact.reading)?)
    .execute(&mut **transaction)
    .await
    .map_err(action())?;
    if more > 0 {
        add(transaction, fact, more, price::charge(prices, fact.meter, fact.minute, more)).await?;
    }
    Ok(step)
}

async fn add(
    transaction: &mut Transaction<'static, Any>,
    fact: &UsageFact,
    more: u64,
    charge: i128,
) -> Result<(), Error> {
    let action = || sql("adding usage");
    let hour = number("the minute", fact.minute / 60)?;
    // As above: read by writing it, so that nobody reads it in between.
    let row = sqlx::query(
        "INSERT INTO usage (workspace, payer, object, meter, hour, name, quantity, charge) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, '0') \
         ON CONFLICT (workspace, payer, object, meter, hour) DO UPDATE SET name = excluded.name \
         RETURNING quantity, charge",
    )
    .bind(&fact.workspace)
    .bind(&fact.payer)
    .bind(&fact.object)
    .bind(fact.meter.name())
    .bind(hour)
    .bind(&fact.name)
    .fetch_one(&mut **transaction)
    .await
    .map_err(action())?;
    let quantity = unsigned(row.try_get("quantity").map_err(action())?)?;
    let too_large = || Error::TooLarge { what: "an hour's usage", value: format!("{quantity} + {more}") };
    let quantity = quantity.checked_add(more).ok_or_else(too_large)?;
    sqlx::query(
        "UPDATE usage SET quantity = $6, charge = $7 \
         WHERE workspace = $1 AND payer = $2 AND object = $3 AND meter = $4 AND hour = $5",
    )
    .bind(&fact.workspace)
    .bind(&fact.payer)
    .bind(&fact.object)
    .bind(fact.meter.name())
    .bind(hour)
    .bind(number("an hour's usage", quantity)?)
    .bind((atto(&row)? + charge).to_string())
    .execute(&mut **transaction)
    .await
    .map_err(action())?;
    Ok(())
}

fn number(what: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::TooLarge { what, value: value.to_string() })
}

fn unsigned(value: i64) -> Result<u64, Error> {
    u64::try_from(value)
        .map_err(|_| Error::Damaged { value: value.to_string(), expected: "a positive number" })
}

fn meter(row: &AnyRow) -> Result<Meter, Error> {
    let name: String = row.try_get("meter").map_err(sql("reading a meter"))?;
    Meter::from_name(&name).ok_or(Error::Damaged { value: name, expected: "a meter's name" })
}

fn atto(row: &AnyRow) -> Result<i128, Error> {
    let text: String = row.try_get("charge").map_err(sql("reading a charge"))?;
    text.parse().map_err(|_| Error::Damaged { value: text, expected: "a charge" })
}
