//! From a template and its inputs to an app.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::app::{App, Context, Link, Random, Values};
use crate::error::Error;
use crate::expression::value::Value;
use crate::expression::{Expression, Failure, Group, Scope};
use crate::input::{Input, InputKind};
use crate::substitute::Substitution;
use crate::template::{Part, Template, Text};
use crate::{conditional, limits, slot, yaml};

pub(crate) fn evaluate(
    template: &Template,
    given: &BTreeMap<String, String>,
    context: &Context,
    random: &mut dyn Random,
) -> Result<App, Error> {
    if let Some(name) = given.keys().find(|name| template.inputs.iter().all(|input| input.name != **name)) {
        let known = template.inputs.iter().map(|input| input.name.clone()).collect();
        return Err(Error::UnknownInput { name: name.clone(), known });
    }
    let mut environment = Environment {
        template,
        given,
        context,
        random,
        defaults: vec![State::Waiting; template.defaults.len()],
        inputs: vec![State::Waiting; template.inputs.len()],
        path: Vec::new(),
        inputs_known: false,
        steps: 0,
    };
    for index in 0..template.defaults.len() {
        environment.default(index)?;
    }
    environment.inputs_known = true;
    for index in 0..template.inputs.len() {
        environment.input(index)?;
    }
    let (text, lines) = conditional::resolve(&template.rest, template.rest_line, &mut |condition| {
        environment.compute(condition)
    })?;
    let (text, slots) = slot::extract(&text, &lines)?;
    let documents = yaml::parse(&text, &lines)?;
    let mut substitution = Substitution::new(&slots);
    let (mut objects, mut links) = (Vec::new(), Vec::new());
    for document in &documents {
        let object = substitution.document(document, &mut |expression| environment.compute(expression))?;
        check_object(&object, document.line)?;
        if object["kind"] == "App" && is_app_group(&object) {
            links.push(Link::from_object(&object));
        } else {
            objects.push(object);
        }
    }
    let values = environment.values();
    let name = match values.defaults.get("app_name") {
        Some(name) if !name.is_empty() => name.clone(),
        _ => template.name.clone(),
    };
    Ok(App { name, namespace: context.namespace.clone(), objects, links, values })
}

fn is_app_group(object: &Json) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with("app.sealos.io/"))
}

/// Whether a document is an object that can be named at all.
fn check_object(object: &Json, line: usize) -> Result<(), Error> {
    for path in ["/apiVersion", "/kind", "/metadata/name"] {
        if object.pointer(path).and_then(Json::as_str).is_none_or(str::is_empty) {
            let field = path[1..].replace('/', ".");
            let problem = format!(
                "the document has no `{field}`; every object needs apiVersion, kind and metadata.name"
            );
            return Err(Error::Object { line, problem });
        }
    }
    Ok(())
}

/// How far a default or an input is evaluated.
#[derive(Clone)]
enum State {
    Waiting,
    Busy,
    Known(Value),
}

struct Environment<'a> {
    template: &'a Template,
    given: &'a BTreeMap<String, String>,
    context: &'a Context,
    random: &'a mut dyn Random,
    defaults: Vec<State>,
    inputs: Vec<State>,
    /// The names that are being evaluated, each for the one before.
    path: Vec<(Group, usize)>,
    inputs_known: bool,
    steps: u64,
}

impl Environment<'_> {
    fn compute(&mut self, expression: &Expression) -> Result<Value, Error> {
        let value = expression.evaluate(self)?;
        if matches!(value, Value::Undefined) {
            return Err(Error::Expression {
                line: expression.line,
                expression: expression.source.clone(),
                problem: "the result is undefined; write '' for nothing".to_owned(),
            });
        }
        Ok(value)
    }

    fn default(&mut self, index: usize) -> Result<Value, Error> {
        if let State::Known(value) = &self.defaults[index] {
            return Ok(value.clone());
        }
        let default = &self.template.defaults[index];
        self.enter(Group::Defaults, index, default.line)?;
        let value = Value::text(self.text(&default.value)?);
        self.leave();
        self.defaults[index] = State::Known(value.clone());
        Ok(value)
    }

    fn input(&mut self, index: usize) -> Result<Value, Error> {
        if let State::Known(value) = &self.inputs[index] {
            return Ok(value.clone());
        }
        let input = &self.template.inputs[index];
        self.enter(Group::Inputs, index, input.line)?;
        let value = self.input_value(input)?;
        self.leave();
        self.inputs[index] = State::Known(value.clone());
        Ok(value)
    }

    fn input_value(&mut self, input: &Input) -> Result<Value, Error> {
        let applies = match &input.condition_expression {
            Some(condition) => self.compute(condition)?.truthy(),
            None => true,
        };
        let given = self.given.get(&input.name).filter(|_| applies);
        let value = match given {
            Some(given) => given.clone(),
            None => self.text(&input.default_text)?,
        };
        if value.is_empty() && applies && input.required {
            return Err(Error::MissingInput {
                name: input.name.clone(),
                kind: input.kind.name(),
                description: input.description.clone(),
            });
        }
        let value = if applies { input.check(&value)? } else { value };
        Ok(match (input.kind, value.as_str()) {
            (InputKind::Boolean, "true") => Value::Switch(true),
            (InputKind::Boolean, "false") => Value::Switch(false),
            _ => Value::text(value),
        })
    }

    fn text(&mut self, text: &Text) -> Result<String, Error> {
        let mut result = String::new();
        for part in &text.0 {
            match part {
                Part::Text(text) => result.push_str(text),
                Part::Expression(expression) => result.push_str(&self.compute(expression)?.to_output()),
            }
            if result.len() > limits::VALUE_BYTES {
                return Err(Error::limit(
                    0,
                    "a default's value",
                    format!("{} bytes", limits::VALUE_BYTES),
                    "make it shorter",
                ));
            }
        }
        Ok(result)
    }

    fn enter(&mut self, group: Group, index: usize, line: usize) -> Result<(), Error> {
        let state = self.state(group, index);
        if matches!(state, State::Busy) {
            let start = self.path.iter().position(|step| *step == (group, index)).unwrap_or(0);
            let mut names: Vec<String> =
                self.path[start..].iter().map(|(group, index)| self.name_of(*group, *index)).collect();
            names.push(self.name_of(group, index));
            return Err(Error::Cycle { line, names });
        }
        *state = State::Busy;
        self.path.push((group, index));
        if self.path.len() > limits::REFERENCE_DEPTH {
            return Err(Error::limit(
                line,
                "the chain of names that need each other",
                limits::REFERENCE_DEPTH.to_string(),
                "let more of them stand on their own, or put those that others need first",
            ));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn state(&mut self, group: Group, index: usize) -> &mut State {
        match group {
            Group::Defaults => &mut self.defaults[index],
            Group::Inputs => &mut self.inputs[index],
        }
    }

    fn name_of(&self, group: Group, index: usize) -> String {
        let name = match group {
            Group::Defaults => &self.template.defaults[index].name,
            Group::Inputs => &self.template.inputs[index].name,
        };
        format!("{}.{name}", group.name())
    }

    fn names(&self, group: Group) -> Vec<String> {
        match group {
            Group::Defaults => self.template.defaults.iter().map(|default| default.name.clone()).collect(),
            Group::Inputs => self.template.inputs.iter().map(|input| input.name.clone()).collect(),
        }
    }

    fn values(&self) -> Values {
        let collect = |names: Vec<String>, states: &[State]| {
            names
                .into_iter()
                .zip(states)
                .filter_map(|(name, state)| match state {
                    State::Known(value) => Some((name, value.to_output().to_string())),
                    State::Waiting | State::Busy => None,
                })
                .collect()
        };
        Values {
            defaults: collect(self.names(Group::Defaults), &self.defaults),
            inputs: collect(self.names(Group::Inputs), &self.inputs),
        }
    }
}

impl Scope for Environment<'_> {
    fn member(&mut self, group: Group, name: &str) -> Result<Value, Failure> {
        let template = self.template;
        let index = match group {
            Group::Defaults => template.defaults.iter().position(|default| default.name == name),
            Group::Inputs if !self.inputs_known => {
                return Err(Failure::Here(
                    "inputs are not known while defaults are evaluated; use them in an input's `default` or in an object".to_owned(),
                ));
            }
            Group::Inputs => template.inputs.iter().position(|input| input.name == name),
        };
        let Some(index) = index else {
            return Err(Failure::NotDefined {
                name: format!("{}.{name}", group.name()),
                group: group.name(),
                known: self.names(group),
            });
        };
        match group {
            Group::Defaults => self.default(index),
            Group::Inputs => self.input(index),
        }
        .map_err(Failure::Elsewhere)
    }

    fn name(&mut self, name: &str) -> Result<Value, Failure> {
        let context = self.context;
        let built_in = [
            ("SEALOS_NAMESPACE", &context.namespace),
            ("SEALOS_CLOUD_DOMAIN", &context.domain),
            ("SEALOS_CLOUD_PORT", &context.port),
            ("SEALOS_CERT_SECRET_NAME", &context.certificate_secret),
            ("SEALOS_SERVICE_ACCOUNT", &context.service_account),
        ];
        match built_in.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(Value::text(value.as_str())),
            None => Err(Failure::NotDefined {
                name: name.to_owned(),
                group: "names",
                known: built_in
                    .iter()
                    .map(|(known, _)| *known)
                    .chain(["defaults.…", "inputs.…"])
                    .map(str::to_owned)
                    .collect(),
            }),
        }
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| {
                // Scales 32 bits to 26 letters; how they are uneven is beyond measuring.
                let letter = ((self.random.next() >> 32) * 26) >> 32;
                char::from(b'a' + u8::try_from(letter).unwrap_or(0))
            })
            .collect()
    }

    fn charge(&mut self, steps: u64) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps <= limits::STEPS {
            return Ok(());
        }
        Err(Failure::Here(format!(
            "the template exceeds the limit of {} steps; let it compute less",
            limits::STEPS
        )))
    }
}
