//! The words of `atoll workspace`.

use clap::{Subcommand, ValueEnum};

use super::Output;

#[derive(Subcommand)]
pub enum Workspace {
    /// Make a workspace
    Create {
        /// Its name, a DNS label
        workspace: String,
        /// The account that owns it and pays for it
        #[arg(long, value_name = "ACCOUNT")]
        owner: String,
        /// What people call it
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// What it may use [default: the plan named standard]
        #[arg(long)]
        plan: Option<String>,
        /// The workspace above it, whose members are its members too: NAME, or OWNER/NAME
        /// for one of another owner, who has to accept it first
        #[arg(long, value_name = "WORKSPACE")]
        parent: Option<String>,
    },
    /// List your workspaces
    List {
        /// Ask as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Show which of your workspaces are below which
    Tree {
        /// Ask as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Put a workspace below another one, or below none
    Move {
        workspace: String,
        /// The workspace above it: NAME, or OWNER/NAME for one of another owner, who has to
        /// accept it first
        #[arg(
            long,
            value_name = "WORKSPACE",
            conflicts_with = "to_root",
            required_unless_present = "to_root"
        )]
        parent: Option<String>,
        /// Below none
        #[arg(long = "root")]
        to_root: bool,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Let another owner's workspace be below one of yours
    Accept {
        /// Your workspace
        workspace: String,
        /// The one that may be below it
        #[arg(value_name = "OWNER/NAME", value_parser = owner_and_name)]
        child: String,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Let another owner's workspace go from below one of yours
    Release {
        /// Your workspace
        workspace: String,
        /// The one that is below it
        #[arg(value_name = "OWNER/NAME", value_parser = owner_and_name)]
        child: String,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Let a workspace go with all that is in it, after the days that its plan says: until
    /// then nothing runs in it, and it can be restored
    Delete {
        workspace: String,
        /// At once: nothing of it can be restored
        #[arg(long)]
        now: bool,
        /// Remove what is below it as well; what others own there is let go and stays
        #[arg(long)]
        subtree: bool,
    },
    /// Keep a workspace that was deleted, as it was
    Restore {
        workspace: String,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Give a workspace another plan
    Plan { workspace: String, plan: String },
    /// Let nothing run in a workspace; its data is kept
    Suspend { workspace: String },
    /// Let everything run again that did
    Resume { workspace: String },
    /// Let what is there stay, and nothing new be made
    Cordon {
        workspace: String,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Let new things be made again
    Uncordon {
        workspace: String,
        /// Act as this account [default: who logged in last]
        #[arg(long, value_name = "ACCOUNT")]
        account: Option<String>,
    },
    /// Say who works in a workspace
    Member {
        #[command(subcommand)]
        command: Members,
    },
}

#[derive(Subcommand)]
pub enum Members {
    /// Add a member, or give one another role
    Add {
        workspace: String,
        account: String,
        #[arg(long, default_value = "developer")]
        role: MemberRole,
    },
    /// Remove a member
    Remove { workspace: String, account: String },
    /// List the members besides the owner
    List {
        workspace: String,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
}

/// The roles a member can be given.
#[derive(Clone, Copy, ValueEnum)]
pub enum MemberRole {
    Viewer,
    Developer,
    Manager,
}

impl From<MemberRole> for api::Role {
    fn from(role: MemberRole) -> Self {
        match role {
            MemberRole::Viewer => Self::Viewer,
            MemberRole::Developer => Self::Developer,
            MemberRole::Manager => Self::Manager,
        }
    }
}

fn owner_and_name(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((owner, name)) if !owner.is_empty() && !name.is_empty() => Ok(text.into()),
        _ => Err(format!("`{text}` is not OWNER/NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_named_with_its_owner() {
        assert_eq!(owner_and_name("bob/leaf").as_deref(), Ok("bob/leaf"));
        for bad in ["leaf", "/leaf", "bob/"] {
            assert!(owner_and_name(bad).unwrap_err().contains("OWNER/NAME"), "{bad}");
        }
    }
}
