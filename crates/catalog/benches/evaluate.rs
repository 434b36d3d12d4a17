//! How long a typical template takes. `cargo bench -p catalog`

use std::collections::BTreeMap;
use std::hint::black_box;

use catalog::{Context, Template};
use criterion::{Criterion, criterion_group, criterion_main};

fn evaluate(criterion: &mut Criterion) {
    let source = include_str!("../tests/fixtures/wiki.yaml");
    let context = Context {
        namespace: "team-abcdef".to_owned(),
        domain: "apps.example.org".to_owned(),
        ..Context::default()
    };
    let values = BTreeMap::from([("replicas".to_owned(), "2".to_owned())]);
    criterion.bench_function("parse", |bencher| bencher.iter(|| Template::parse(black_box(source))));
    if let Ok(template) = Template::parse(source) {
        criterion.bench_function("evaluate", |bencher| {
            bencher.iter(|| template.evaluate(black_box(&values), &context, &mut || 7));
        });
    }
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
