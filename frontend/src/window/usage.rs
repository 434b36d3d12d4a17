//! Usage and bill of the workspace, month by month.

use std::collections::BTreeMap;

use api::usage::{Bill, UsageLine};
use frontend::period;
use frontend::units::{meter_name, money, quantity};
use leptos::prelude::*;

use super::{money_path, month};
use crate::desktop::Desktop;
use crate::load::{Load, load};
use crate::parts::{Empty, Frame, loaded};

/// How many months can be looked at.
const MONTHS: u32 = 6;

#[component]
pub fn Usage(workspace: String) -> impl IntoView {
    let desktop = Desktop::get();
    let back = RwSignal::new(0_u32);
    let again = RwSignal::new(0);
    let name = workspace.clone();
    let bill = load::<Bill>(move || {
        desktop.usage_changed.track();
        again.track();
        Some(money_path(&name, "bill", month(back.get())))
    });
    let usage = load::<Vec<UsageLine>>(move || {
        desktop.usage_changed.track();
        again.track();
        Some(money_path(&workspace, "usage", month(back.get())))
    });
    let currency = Memo::new(move |_| match &*bill.read() {
        Load::Ready(bill) => bill.currency.clone(),
        _ => String::new(),
    });
    view! {
        <Frame title="Usage & bill" icon="usage">
            <div class="toolbar">
                <label for="month">"Month"</label>
                <select id="month" on:change:target=move |event| {
                    back.set(event.target().value().parse().unwrap_or_default());
                }>
                    {(0..MONTHS).map(|back| view! {
                        <option value=back.to_string()>{period::name(month(back))}</option>
                    }).collect_view()}
                </select>
            </div>
            {loaded(bill, "the bill", again, move |bill| {
                view! { <BillView bill=bill is_over={back.get_untracked() > 0}/> }
            })}
            <h2>"By object"</h2>
            {loaded(usage, "what was used", again, move |lines| view! { <Objects lines=lines currency=currency/> })}
        </Frame>
    }
}

#[component]
fn BillView(bill: Bill, is_over: bool) -> impl IntoView {
    let largest = bill.lines.iter().map(|line| line.charge_micros).max().unwrap_or_default().max(1);
    let currency = bill.currency.clone();
    let lines = bill.lines.clone();
    view! {
        <p class="total">
            <span class="faint">{if is_over { "Charged" } else { "Charged so far" }}</span>
            <strong id="total">{money(bill.total_micros, &bill.currency)}</strong>
        </p>
        {(!lines.is_empty()).then(|| view! {
            <table class="bill">
                <caption class="unseen">"The bill, by what was measured"</caption>
                <thead>
                    <tr><th scope="col">"What"</th><th scope="col">"How much"</th><th scope="col" class="share">"Share"</th><th scope="col" class="number">"Charge"</th></tr>
                </thead>
                <tbody>
                    {lines.into_iter().map(|line| {
                        let width = line.charge_micros.max(0) as f64 / largest as f64 * 100.0;
                        view! {
                            <tr>
                                <th scope="row">{meter_name(line.meter)}</th>
                                <td>{quantity(line.meter, line.quantity)}</td>
                                <td class="share">
                                    <svg class="bar-chart" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
                                        <rect class="bar-back" width="100" height="8"></rect>
                                        <rect class="bar-fill" width=format!("{width:.1}") height="8"></rect>
                                    </svg>
                                </td>
                                <td class="number">{money(line.charge_micros, &currency)}</td>
                            </tr>
                        }
                    }).collect_view()}
                </tbody>
            </table>
        })}
    }
}

#[component]
fn Objects(lines: Vec<UsageLine>, currency: Memo<String>) -> impl IntoView {
    if lines.is_empty() {
        return view! {
            <Empty icon="usage" title="Nothing was used">
                <p>"What runs is measured each minute and appears here."</p>
            </Empty>
        }
        .into_any();
    }
    let mut objects: BTreeMap<String, Vec<UsageLine>> = BTreeMap::new();
    for line in lines {
        objects.entry(line.name.clone()).or_default().push(line);
    }
    view! {
        <table class="objects">
            <caption class="unseen">"What each object used"</caption>
            <thead>
                <tr><th scope="col">"Object"</th><th scope="col">"What"</th><th scope="col">"How much"</th><th scope="col" class="number">"Charge"</th></tr>
            </thead>
            {objects.into_iter().map(|(name, lines)| {
                let rows = lines.len();
                let name = if name.is_empty() { "the whole workspace".to_owned() } else { name };
                view! {
                    <tbody>
                        {lines.into_iter().enumerate().map(|(at, line)| view! {
                            <tr>
                                {(at == 0).then(|| view! {
                                    <th scope="rowgroup" rowspan=rows.to_string()>{name.clone()}</th>
                                })}
                                <td>{meter_name(line.meter)}</td>
                                <td>{quantity(line.meter, line.quantity)}</td>
                                <td class="number">{move || money(line.charge_micros, &currency.read())}</td>
                            </tr>
                        }).collect_view()}
                    </tbody>
                }
            }).collect_view()}
        </table>
    }
    .into_any()
}
