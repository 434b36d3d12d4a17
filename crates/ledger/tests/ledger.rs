//! The ledger on SQLite and on PostgreSQL: each case runs on both.
#![allow(clippy::unwrap_used)]

mod databases;

use api::usage::{Meter, UsageBatch, UsageFact};
use ledger::price::Price;
use ledger::{Error, Ingested};

use databases::Databases;

fn fact(object: &str, minute: u64, reading: u64) -> UsageFact {
    UsageFact {
        object: object.into(),
        name: format!("pod/{object}"),
        workspace: "shop".into(),
        payer: "ada".into(),
        meter: Meter::InternetSentBytes,
        minute,
        reading,
    }
}

fn batch(facts: Vec<UsageFact>) -> UsageBatch {
    UsageBatch { cluster: "c".into(), node: "n".into(), epoch: "1".into(), facts }
}

#[tokio::test]
async fn what_is_sent_twice_counts_once() {
    for ledger in Databases::start().ledgers().await {
        let first = batch(vec![fact("a", 60, 100), fact("a", 61, 250), fact("b", 60, 7)]);
        assert_eq!(ledger.ingest(&first).await.unwrap(), Ingested { counted: 3, ..Ingested::default() });
        assert_eq!(ledger.ingest(&first).await.unwrap(), Ingested { known: 3, ..Ingested::default() });
        // One was lost on the way: the next one holds it.
        let late = batch(vec![fact("a", 125, 1000)]);
        ledger.ingest(&late).await.unwrap();
        let usage = ledger.usage("shop", 0, 1000).await.unwrap();
        let used: Vec<_> = usage.iter().map(|line| (line.name.as_str(), line.quantity)).collect();
        assert_eq!(used, [("pod/a", 1000), ("pod/b", 7)]);
        // By hour: the last 750 were used in the third.
        assert_eq!(ledger.usage("shop", 120, 180).await.unwrap()[0].quantity, 750);
        assert!(ledger.usage("other", 0, 1000).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn another_life_of_a_source_counts_from_zero() {
    for ledger in Databases::start().ledgers().await {
        ledger.ingest(&batch(vec![fact("a", 1, 100)])).await.unwrap();
        let again = UsageBatch { epoch: "2".into(), ..batch(vec![fact("a", 2, 30)]) };
        ledger.ingest(&again).await.unwrap();
        assert_eq!(ledger.bill("shop", 0, 60).await.unwrap().lines[0].quantity, 130);
        let backwards = UsageBatch { epoch: "2".into(), ..batch(vec![fact("a", 3, 29)]) };
        assert_eq!(ledger.ingest(&backwards).await.unwrap().backwards, 1);
    }
}

#[tokio::test]
async fn a_bill_adds_up_and_small_charges_are_not_lost() {
    for ledger in Databases::start().ledgers().await {
        let price = Price { meter: Meter::InternetSentBytes, from_minute: 60, atto: 400_000_000_000 };
        ledger.set_price(price, 59).await.unwrap();
        let refused = ledger.set_price(Price { from_minute: 59, ..price }, 59).await;
        assert!(matches!(refused, Err(Error::PriceInThePast(59))));
        // Each is 0.4 millionths: rounded one by one they would be nothing.
        for minute in 60..70 {
            ledger.ingest(&batch(vec![fact("a", minute, minute - 59)])).await.unwrap();
        }
        let bill = ledger.bill("shop", 0, 120).await.unwrap();
        assert_eq!((bill.total_micros, bill.currency.as_str()), (4, "EUR"));
        assert_eq!(bill.lines.iter().map(|line| line.charge_micros).sum::<i64>(), bill.total_micros);
    }
}

#[tokio::test]
async fn servers_that_count_the_same_batch_at_once_count_it_once() {
    let databases = Databases::start();
    // Only PostgreSQL has several servers.
    let ledgers = [databases.postgres().await, databases.postgres().await];
    for minute in 1..40 {
        let one = batch((0..5).map(|object| fact(&object.to_string(), minute, minute * 10)).collect());
        let (first, second) = tokio::join!(ledgers[0].ingest(&one), ledgers[1].ingest(&one));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.counted + second.counted, 5, "minute {minute}");
    }
    assert_eq!(ledgers[0].bill("shop", 0, 60).await.unwrap().lines[0].quantity, 5 * 390);
}

#[tokio::test]
async fn what_is_stored_survives_being_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("ledger.db").display());
    ledger::Ledger::open(&url).await.unwrap().ingest(&batch(vec![fact("a", 1, 5)])).await.unwrap();
    let again = ledger::Ledger::open(&url).await.unwrap();
    assert_eq!(again.bill("shop", 0, 60).await.unwrap().lines[0].quantity, 5);
}
