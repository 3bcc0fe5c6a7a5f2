use super::*;

/// `grantee privilege[*] [by grantor]`, separated by commas; PUBLIC has no name.
fn acl(text: &str) -> Vec<Grant> {
    let parse = |entry: &str| {
        let words: Vec<&str> = entry.split_whitespace().collect();
        let (grantee, privilege) = (words[0].replace("PUBLIC", ""), words[1]);
        let grantor = words.get(3).copied().unwrap_or("owner").to_owned();
        let grantable = privilege.ends_with('*');
        Grant { grantee, grantor, privilege: privilege.trim_end_matches('*').to_owned(), grantable }
    };
    text.split(',').filter(|entry| !entry.trim().is_empty()).map(parse).collect()
}

fn state(grants: &str) -> State {
    State { owner: Some("owner".to_owned()), acl: Some(acl(grants)), ..State::default() }
}

fn existing(grants: &str) -> Existing {
    let object = "TABLE s.t".to_owned();
    Existing {
        object,
        owner: "owner".to_owned(),
        acl: acl(grants),
        default: acl("owner SELECT"),
        ..Existing::default()
    }
}

fn known(ours: &[&str], others: &[&str]) -> Known {
    let role = |ours| move |name: &&str| ((*name).to_owned(), Role { ours, acts: true });
    let roles = ours.iter().map(role(true)).chain(others.iter().map(role(false))).collect();
    Known { roles, server_version: 150_000 }
}

/// The statements, with the grantor before those that are not the owner's.
fn planned(there: &str, before: Option<&str>, after: &str, known: &Known) -> (Vec<String>, Vec<String>) {
    let (before, after) = (before.map(state), state(after));
    let plan = plan(&existing(there), before.as_ref(), Some(&after), known);
    let shown = |step: &Step| match step.grantor.as_str() {
        "owner" => step.sql.clone(),
        grantor => format!("{grantor}: {}", step.sql),
    };
    (plan.steps.iter().map(shown).collect(), plan.missing.into_iter().collect())
}

#[test]
fn what_is_as_wanted_costs_nothing() {
    let known = known(&["owner", "a"], &[]);
    assert_eq!(planned("owner SELECT, a SELECT*", None, "a SELECT*, owner SELECT", &known), (vec![], vec![]));
}

#[test]
fn d18_grant_options_come_before_what_depends_on_them_and_go_after_it() {
    let known = known(&["owner", "a", "b", "c"], &[]);
    let chain = "c SELECT by b, b SELECT* by a, a SELECT*";
    let (steps, _) = planned("", None, chain, &known);
    let wanted = [
        "GRANT SELECT ON TABLE s.t TO \"a\" WITH GRANT OPTION",
        "a: GRANT SELECT ON TABLE s.t TO \"b\" WITH GRANT OPTION",
        "b: GRANT SELECT ON TABLE s.t TO \"c\"",
    ];
    assert_eq!(steps, wanted);
    let (steps, _) = planned(chain, Some(chain), "a SELECT", &known);
    let wanted = [
        "b: REVOKE SELECT ON TABLE s.t FROM \"c\" CASCADE",
        "a: REVOKE SELECT ON TABLE s.t FROM \"b\" CASCADE",
        "REVOKE GRANT OPTION FOR SELECT ON TABLE s.t FROM \"a\" CASCADE",
    ];
    assert_eq!(steps, wanted);
}

#[test]
fn what_was_granted_here_to_local_roles_stays() {
    let known = known(&["owner", "ours"], &["local", "told"]);
    let there = "owner SELECT, local SELECT, ours SELECT, PUBLIC SELECT, told SELECT";
    let (steps, _) = planned(there, Some("told SELECT"), "owner SELECT", &known);
    let revoked = |role: &str| format!("REVOKE SELECT ON TABLE s.t FROM {role} CASCADE");
    assert_eq!(steps, [revoked("\"ours\""), revoked("PUBLIC"), revoked("\"told\"")]);
}

#[test]
fn d19_what_cannot_be_granted_yet_waits_for_the_roles() {
    let known = known(&["owner", "a"], &[]);
    let (steps, missing) = planned("owner SELECT", None, "owner SELECT, x SELECT, a SELECT by y, a INSERT", &known);
    assert_eq!((steps.len(), missing), (1, vec!["x".to_owned(), "y".to_owned()]));
}

#[test]
fn the_owner_there_stands_for_the_owner_here() {
    let mut there = existing("login SELECT by login");
    there.owner = "login".to_owned();
    let known = known(&["a"], &["login"]);
    let plan = plan(&there, None, Some(&state("owner SELECT, a SELECT")), &known);
    let steps: Vec<_> = plan.steps.iter().map(|step| (step.grantor.as_str(), step.sql.as_str())).collect();
    assert_eq!(steps, [("login", "GRANT SELECT ON TABLE s.t TO \"a\"")]);
    assert_eq!(plan.missing.into_iter().collect::<Vec<_>>(), ["owner"]);
}

#[test]
fn columns_keep_what_a_revoke_on_their_table_takes_along() {
    let mut there = existing("owner SELECT, a SELECT");
    there.columns.insert("c".to_owned(), acl("a SELECT"));
    let mut after = state("owner SELECT");
    after.columns =
        vec![crate::state::Column { name: "c".to_owned(), acl: Some(acl("a SELECT")), ..Default::default() }];
    let plan = plan(&there, None, Some(&after), &known(&["owner", "a"], &[]));
    let sql: Vec<&str> = plan.steps.iter().map(|step| step.sql.as_str()).collect();
    assert_eq!(sql, ["REVOKE SELECT ON TABLE s.t FROM \"a\" CASCADE", "GRANT SELECT (\"c\") ON TABLE s.t TO \"a\""]);
}

#[test]
fn x01_privileges_that_nobody_knows_do_not_become_sql() {
    let mut after = state("");
    after.acl = Some(vec![Grant { privilege: "SELECT; DROP".to_owned(), ..acl("a\"b SELECT")[0].clone() }]);
    after.acl.as_mut().unwrap().extend(acl("a\"b SELECT"));
    let plan = plan(&existing("owner SELECT"), None, Some(&after), &known(&["owner", "a\"b"], &[]));
    assert!(plan.steps.iter().any(|step| step.sql == "GRANT SELECT ON TABLE s.t TO \"a\"\"b\""), "{plan:?}");
    assert!(plan.steps.iter().all(|step| !step.sql.contains("DROP")), "{plan:?}");
}

#[test]
fn maintain_is_left_out_before_17_and_left_alone_where_the_source_does_not_know_it() {
    let older = known(&["owner", "a"], &[]);
    assert_eq!(planned("owner SELECT", None, "owner SELECT, a MAINTAIN", &older).0, Vec::<String>::new());
    let newer = Known { server_version: 170_000, ..older };
    assert_eq!(planned("owner SELECT, owner MAINTAIN", None, "owner SELECT", &newer).0, Vec::<String>::new());
    let (steps, _) = planned("owner SELECT, owner MAINTAIN", None, "", &newer);
    assert_eq!(steps.len(), 2, "{steps:?}");
    let (steps, _) = planned("a MAINTAIN, owner SELECT", Some("a MAINTAIN"), "owner SELECT", &newer);
    assert_eq!(steps, ["REVOKE MAINTAIN ON TABLE s.t FROM \"a\" CASCADE"]);
}

#[test]
fn circles_of_grantors_end() {
    let circle = acl("a SELECT* by b, b SELECT* by a");
    assert_eq!(depth(&circle[0], &circle, "owner"), 2);
}
