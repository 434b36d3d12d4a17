//! Tokens to a tree whose depth is bounded, so that whoever walks it can
//! recurse.

use super::lexer::{Token, tokens};
use super::value::Value;
use crate::limits;

/// What to compute.
#[derive(Debug)]
pub(crate) enum Node {
    Literal(Value),
    /// Pattern and flags.
    Regex(String, String),
    Name(String),
    /// `a.b` and `a['b']`.
    Member(Box<Node>, Box<Node>),
    Call(String, Vec<Node>),
    Method(Box<Node>, String, Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Choose(Box<Node>, Box<Node>, Box<Node>),
}

/// What stands between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    StrictlyEqual,
    StrictlyUnequal,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
}

/// An operator and how tightly it binds.
fn operator(symbol: &str) -> Option<(Operator, u8)> {
    Some(match symbol {
        "||" => (Operator::Or, 1),
        "&&" => (Operator::And, 2),
        "===" => (Operator::StrictlyEqual, 3),
        "!==" => (Operator::StrictlyUnequal, 3),
        "==" => (Operator::Equal, 3),
        "!=" => (Operator::Unequal, 3),
        "<" => (Operator::Less, 4),
        "<=" => (Operator::LessOrEqual, 4),
        ">" => (Operator::Greater, 4),
        ">=" => (Operator::GreaterOrEqual, 4),
        "+" => (Operator::Add, 5),
        _ => return None,
    })
}

/// A subtree and how deep it is.
struct Tree {
    node: Node,
    depth: usize,
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// How deep the parser itself has recursed.
    nesting: usize,
}

/// Reads an expression; a refusal says what is wrong.
pub(crate) fn parse(source: &str) -> Result<Node, String> {
    if source.len() > limits::EXPRESSION_BYTES {
        return Err(format!(
            "the expression exceeds the limit of {} bytes; move parts of it to `spec.defaults`",
            limits::EXPRESSION_BYTES
        ));
    }
    let tokens = tokens(source)?;
    if tokens.is_empty() {
        return Err("the expression is empty; name a value, such as `defaults.app_name`".to_owned());
    }
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), nesting: 0 };
    let tree = parser.choice()?;
    match parser.tokens.next() {
        None => Ok(tree.node),
        Some(token) => Err(format!("{} is not expected there; remove it", token.describe())),
    }
}

impl Parser {
    fn accept(&mut self, symbol: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Symbol(found) if *found == symbol)).is_some()
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.accept(symbol) {
            return Ok(());
        }
        Err(match self.tokens.peek() {
            Some(token) => format!("`{symbol}` is expected before {}", token.describe()),
            None => format!("`{symbol}` is missing at the end"),
        })
    }

    fn grow(node: Node, depths: &[usize]) -> Result<Tree, String> {
        let depth = 1 + depths.iter().copied().max().unwrap_or(0);
        if depth > limits::EXPRESSION_DEPTH { Err(too_deep()) } else { Ok(Tree { node, depth }) }
    }

    fn choice(&mut self) -> Result<Tree, String> {
        self.nesting += 1;
        if self.nesting > limits::EXPRESSION_DEPTH {
            return Err(too_deep());
        }
        let condition = self.binary(1)?;
        let tree = if self.accept("?") {
            let yes = self.choice()?;
            self.expect(":")?;
            let no = self.choice()?;
            let depths = [condition.depth, yes.depth, no.depth];
            Self::grow(
                Node::Choose(Box::new(condition.node), Box::new(yes.node), Box::new(no.node)),
                &depths,
            )?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(tree)
    }

    fn binary(&mut self, minimum: u8) -> Result<Tree, String> {
        let mut left = self.unary()?;
        while let Some(Token::Symbol(symbol)) = self.tokens.peek() {
            let Some((operator, strength)) = operator(symbol).filter(|(_, strength)| *strength >= minimum)
            else {
                break;
            };
            self.tokens.next();
            let right = self.binary(strength + 1)?;
            let depths = [left.depth, right.depth];
            left = Self::grow(Node::Binary(operator, Box::new(left.node), Box::new(right.node)), &depths)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Tree, String> {
        // A loop, because `!!!!…` would otherwise recurse once for each.
        let mut signs = Vec::new();
        loop {
            if self.accept("!") {
                signs.push(true);
            } else if self.accept("-") {
                signs.push(false);
            } else {
                break;
            }
        }
        let mut tree = self.postfix()?;
        for not in signs.into_iter().rev() {
            let node = Box::new(tree.node);
            tree = Self::grow(if not { Node::Not(node) } else { Node::Negate(node) }, &[tree.depth])?;
        }
        Ok(tree)
    }

    fn postfix(&mut self) -> Result<Tree, String> {
        let mut tree = self.primary()?;
        loop {
            if self.accept(".") {
                let name = match self.tokens.next() {
                    Some(Token::Name(name)) => name,
                    Some(token) => return Err(format!("a name is expected before {}", token.describe())),
                    None => return Err("a name is missing after `.`".to_owned()),
                };
                tree = if self.accept("(") {
                    let (arguments, depth) = self.arguments()?;
                    Self::grow(Node::Method(Box::new(tree.node), name, arguments), &[tree.depth, depth])?
                } else {
                    let key = Box::new(Node::Literal(Value::text(name)));
                    Self::grow(Node::Member(Box::new(tree.node), key), &[tree.depth])?
                };
            } else if self.accept("[") {
                let key = self.choice()?;
                self.expect("]")?;
                let depths = [tree.depth, key.depth];
                tree = Self::grow(Node::Member(Box::new(tree.node), Box::new(key.node)), &depths)?;
            } else {
                return Ok(tree);
            }
        }
    }

    fn primary(&mut self) -> Result<Tree, String> {
        let node = match self.tokens.next() {
            Some(Token::Text(text)) => Node::Literal(Value::text(text)),
            Some(Token::Number(number)) => Node::Literal(Value::Number(number)),
            Some(Token::Regex(pattern, flags)) => Node::Regex(pattern, flags),
            Some(Token::Name(name)) => match name.as_str() {
                "true" => Node::Literal(Value::Bool(true)),
                "false" => Node::Literal(Value::Bool(false)),
                "null" => Node::Literal(Value::Null),
                "undefined" => Node::Literal(Value::Undefined),
                _ if self.accept("(") => {
                    let (arguments, depth) = self.arguments()?;
                    return Self::grow(Node::Call(name, arguments), &[depth]);
                }
                _ => Node::Name(name),
            },
            Some(Token::Symbol("(")) => {
                let tree = self.choice()?;
                self.expect(")")?;
                return Ok(tree);
            }
            Some(token) => return Err(format!("a value is expected before {}", token.describe())),
            None => return Err("a value is missing at the end".to_owned()),
        };
        Self::grow(node, &[])
    }

    /// What stands after `(`, and the depth of the deepest.
    fn arguments(&mut self) -> Result<(Vec<Node>, usize), String> {
        let (mut arguments, mut depth) = (Vec::new(), 0);
        while !self.accept(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            let tree = self.choice()?;
            depth = depth.max(tree.depth);
            arguments.push(tree.node);
        }
        Ok((arguments, depth))
    }
}

fn too_deep() -> String {
    format!(
        "the expression is nested deeper than the limit of {} levels; move parts of it to `spec.defaults`",
        limits::EXPRESSION_DEPTH
    )
}
