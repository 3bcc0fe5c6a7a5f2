//! A source with the capture, and what it wrote.

use capture::Outcome;
use capture::ddl::{self, Capture};
use cluster::Cluster;
use tokio_postgres::{Client, NoTls};

pub(crate) async fn connect(cluster: &Cluster, user: Option<&str>) -> Client {
    let conninfo = cluster.conninfo("postgres");
    let conninfo =
        user.map_or(conninfo.to_string(), |user| cluster.conninfo("postgres").with("user", user).to_string());
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A source with the capture installed and a slot that sees its messages.
pub(crate) async fn source(capture: &Capture) -> (Cluster, Client) {
    let server = Cluster::builder().set("wal_level", "logical").start().unwrap();
    let mut client = connect(&server, None).await;
    client.batch_execute("create role service login; create schema walcast; create publication p").await.unwrap();
    assert_eq!(ddl::install(&mut client, capture).await.unwrap(), Outcome::Done);
    client.execute("select pg_create_logical_replication_slot('s', 'pgoutput')", &[]).await.unwrap();
    (server, client)
}

/// Messages of the stream since the last call. The content of a pgoutput message with prefix "walcast" begins at byte 23,
/// its JSON after 64 hexadecimal digits.
pub(crate) const MESSAGES: &str = "select convert_from(substring(data from 87), 'UTF8')::jsonb as message, \
            substring(data from 23 for 64) as mac, \
            substring(data from 87) as content, xid, n \
       from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p', \
            'messages', 'true') with ordinality d (lsn, xid, data, n) where get_byte(data, 0) = ascii('M')";

/// One line for each message: what it did to which object, with what else a change says of itself.
pub(crate) async fn captured(client: &Client) -> Vec<String> {
    let sql = format!(
        "with m as materialized ({MESSAGES}) \
         select coalesce((select string_agg(concat_ws(' ', \
                    case when c ? 'failed' then 'failed' when c -> 'after' = 'null' then 'drop' \
                        when c -> 'before' = 'null' then 'create' else 'alter' end, \
                    coalesce(nullif(c -> 'after', 'null'), c -> 'before') ->> 'object', \
                    case when c -> 'before' ->> 'identity' <> c -> 'after' ->> 'identity' \
                        then 'was ' || (c -> 'before' ->> 'identity') end, \
                    case when c ? 'auto' then '(auto)' end, case when c -> 'rewritten' = 'true' then '(rewritten)' end, \
                    '(member of ' || (c ->> 'member_of') || ')'), ', ' order by i) \
             from jsonb_array_elements(message -> 'changes') with ordinality e (c, i)), '') \
             || coalesce(' refresh ' || (message ->> 'refresh'), '') || coalesce(' unsupported ' || (message ->> 'unsupported'), '') \
             || coalesce(' sequences ' || nullif(message ->> 'sequences', '[]'), '') \
         from m order by n"
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What a query over the messages (table `m`) says.
pub(crate) async fn of_messages(client: &Client, select: &str) -> String {
    let sql = format!("with m as materialized ({MESSAGES}) {select}");
    client.query_one(&sql, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

pub(crate) async fn tick(client: &mut Client, every: bool) -> String {
    let build = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let transaction = build.start().await.unwrap();
    let row = transaction.query_one("select walcast.tick($1)::text", &[&every]).await.unwrap();
    transaction.commit().await.unwrap();
    row.get(0)
}
