//! Builds and shows cluster images from a checkout, without the command.
use installer::image::{BuildOptions, Store, build, container_images, fill_registry};
use installer::progress::Lines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let cache = std::env::var("CACHE").map_or_else(|_| installer::image::default_cache_dir(), Into::into);
    let began = std::time::Instant::now();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build", rest @ ..] => {
            let mut options = BuildOptions::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            options.cache = cache;
            if let [file, name] = rest {
                options.kubefile = Some(file.into());
                options.name = (*name).to_owned();
            }
            println!("{}", serde_json::to_string_pretty(&build(&options, &Lines::default())?)?);
        }
        ["unpack", name] => {
            let store = Store::open(cache)?;
            for folder in store.unpacked(&store.find(name)?)? {
                println!("{}", folder.display());
            }
        }
        ["containers", name] => {
            let store = Store::open(cache)?;
            for image in container_images(&store.unpacked(&store.find(name)?)?)? {
                println!("{} {} {}", image.group, image.name, image.digest);
            }
        }
        ["registry", name, dir] => {
            let store = Store::open(cache)?;
            println!("{:?}", fill_registry(&store.unpacked(&store.find(name)?)?, dir.as_ref())?);
        }
        ["save", name, file] => println!("{:?}", Store::open(cache)?.save(name, file.as_ref())?),
        ["load", file] => println!("{:?}", Store::open(cache)?.load(file.as_ref())?),
        ["evict", limit] => println!("{:?}", Store::open(cache)?.evict(limit.parse()?, &[])?),
        ["rm", name] => println!("{:?}", Store::open(cache)?.remove(name)?),
        ["list"] => println!("{}", serde_json::to_string_pretty(&Store::open(cache)?.list()?)?),
        _ => eprintln!(
            "image build [KUBEFILE NAME]|list|unpack NAME|containers NAME|registry NAME DIR|save NAME FILE|load FILE|rm NAME|evict BYTES"
        ),
    }
    eprintln!("{:.2?}", began.elapsed());
    Ok(())
}
