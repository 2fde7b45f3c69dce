//! What each user who is logged in is due, with all of them: members of a group may share a weight.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use anyhow::Result;

use super::user_slice;
use crate::host::account::Account;
use crate::policy::{LoginRule, Policy, RuleOf, Sourced};
use crate::units::{CpuWeight, Weight};

/// A weight that members of a group share.
#[derive(Debug)]
pub struct Shared {
    /// The group's name.
    pub group: String,
    /// What its members weigh together.
    pub total: Sourced<Weight>,
    /// How many of them are logged in, with this one.
    pub members: usize,
}

/// By number, which rule a user gets, what it comes to beside the others, and how many share its weight.
#[derive(Debug)]
pub struct Due<'p>(BTreeMap<u32, (RuleOf<'p>, LoginRule, usize)>);

impl<'p> Due<'p> {
    /// Of these users, who are all of those logged in.
    ///
    /// # Errors
    /// NSS failed.
    pub fn of(policy: &'p Policy, users: &[u32]) -> Result<Self> {
        let account = |uid: &u32| Ok((*uid, Account::by_uid(*uid)?));
        let accounts = users.iter().map(account).collect::<Result<Vec<_>>>()?;
        Self::of_accounts(policy, accounts.iter().map(|(uid, account)| (*uid, account.as_ref())))
    }

    /// The same of those whose accounts are known; of one whom NSS does not know there is none.
    ///
    /// # Errors
    /// NSS failed.
    pub fn of_accounts<'a>(
        policy: &'p Policy,
        users: impl Iterator<Item = (u32, Option<&'a Account>)>,
    ) -> Result<Self> {
        let rule = |(uid, account)| Ok((uid, user_slice::rule(policy, account)?));
        let rules = users.map(rule).collect::<Result<Vec<(u32, (RuleOf<'p>, LoginRule))>>>()?;
        let held: Vec<_> = rules.iter().map(|(uid, (of, _))| (*uid, *of)).collect();
        let members = policy.logins.members(&held);
        let among = |(uid, (of, rule))| {
            let members = members.get(&uid).copied().unwrap_or(1);
            (uid, (of, policy.logins.among(of, uid, rule, members), members))
        };
        Ok(Self(rules.into_iter().map(among).collect()))
    }

    /// Each user's, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, RuleOf<'p>, &LoginRule)> {
        self.0.iter().map(|(uid, (of, rule, _))| (*uid, *of, rule))
    }

    /// One user's.
    #[must_use]
    pub fn get(&self, uid: u32) -> Option<(RuleOf<'p>, &LoginRule)> {
        self.0.get(&uid).map(|(of, rule, _)| (*of, rule))
    }

    /// What their slices weigh; `None` is the kernel's default.
    #[must_use]
    pub fn weights(&self) -> Vec<Option<CpuWeight>> {
        self.iter().map(|(_, _, rule)| rule.cpu_weight()).collect()
    }

    /// The weight that one of them shares with others, if there is one.
    #[must_use]
    pub fn shared(&self, policy: &Policy, uid: u32) -> Option<Shared> {
        let (of, _, members) = self.0.get(&uid)?;
        let (group, total) = policy.logins.budget(*of, uid)?;
        Some(Shared { group: group.to_owned(), total: total.clone(), members: *members })
    }

    /// Whose weight each of them shares.
    #[must_use]
    pub fn groups<'a>(&self, policy: &'a Policy) -> BTreeMap<u32, Option<&'a str>>
    where
        'p: 'a,
    {
        let group = |uid, of| policy.logins.budget(of, uid).map(|(group, _)| group);
        self.iter().map(|(uid, of, _)| (uid, group(uid, of))).collect()
    }
}
