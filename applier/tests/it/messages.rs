//! pgoutput messages of changes, written by hand.

use decoder::RelationId;

/// One column's value.
#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Toast,
    Text(String),
    Binary(Vec<u8>),
}

pub(crate) use Value::{Null, Toast};

pub(crate) fn t(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

pub(crate) fn b(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Binary(bytes.into())
}

/// The types that the tests name.
pub(crate) const INT4: u32 = 23;
pub(crate) const INT8: u32 = 20;
pub(crate) const TEXT: u32 = 25;

/// A relation as the source would describe it.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) id: u32,
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    /// `d`, `i`, `f` or `n`.
    pub(crate) identity: u8,
    /// Key, name, type.
    pub(crate) columns: Vec<(bool, &'static str, u32)>,
}

impl Table {
    /// REPLICA IDENTITY DEFAULT in schema public.
    pub(crate) fn new(id: u32, name: &'static str, columns: &[(bool, &'static str, u32)]) -> Table {
        Table { id, schema: "public", name, identity: b'd', columns: columns.to_vec() }
    }

    /// The same with REPLICA IDENTITY FULL, which makes all columns keys.
    pub(crate) fn full(mut self) -> Table {
        self.identity = b'f';
        self.columns.iter_mut().for_each(|column| column.0 = true);
        self
    }

    pub(crate) fn relation(&self) -> RelationId {
        RelationId(self.id)
    }

    pub(crate) fn describe(&self) -> Vec<u8> {
        let mut m = vec![b'R'];
        m.extend(self.id.to_be_bytes());
        m.extend([self.schema.as_bytes(), &[0], self.name.as_bytes(), &[0, self.identity]].concat());
        m.extend((self.columns.len() as u16).to_be_bytes());
        for (key, name, type_oid) in &self.columns {
            m.push(u8::from(*key));
            m.extend([name.as_bytes(), &[0]].concat());
            m.extend(type_oid.to_be_bytes());
            m.extend((-1i32).to_be_bytes());
        }
        m
    }

    pub(crate) fn insert(&self, new: &[Value]) -> Vec<u8> {
        self.message(b'I', &[(b'N', new)])
    }

    pub(crate) fn update(&self, new: &[Value]) -> Vec<u8> {
        self.message(b'U', &[(b'N', new)])
    }

    pub(crate) fn update_key(&self, old: &[Value], new: &[Value]) -> Vec<u8> {
        self.message(b'U', &[(b'K', old), (b'N', new)])
    }

    pub(crate) fn update_full(&self, old: &[Value], new: &[Value]) -> Vec<u8> {
        self.message(b'U', &[(b'O', old), (b'N', new)])
    }

    pub(crate) fn delete(&self, old: &[Value]) -> Vec<u8> {
        self.message(b'D', &[(if self.identity == b'f' { b'O' } else { b'K' }, old)])
    }

    fn message(&self, tag: u8, tuples: &[(u8, &[Value])]) -> Vec<u8> {
        let mut m = vec![tag];
        m.extend(self.id.to_be_bytes());
        for (kind, values) in tuples {
            m.push(*kind);
            m.extend((values.len() as u16).to_be_bytes());
            values.iter().for_each(|value| put(&mut m, value));
        }
        m
    }
}

fn put(m: &mut Vec<u8>, value: &Value) {
    let (tag, bytes) = match value {
        Value::Null => return m.push(b'n'),
        Value::Toast => return m.push(b'u'),
        Value::Text(text) => (b't', text.as_bytes()),
        Value::Binary(bytes) => (b'b', bytes.as_slice()),
    };
    m.push(tag);
    m.extend((bytes.len() as u32).to_be_bytes());
    m.extend(bytes);
}

/// CASCADE is 1, RESTART IDENTITY is 2.
pub(crate) fn truncate(tables: &[&Table], flags: u8) -> Vec<u8> {
    let mut m = vec![b'T'];
    m.extend((tables.len() as u32).to_be_bytes());
    m.push(flags);
    tables.iter().for_each(|table| m.extend(table.id.to_be_bytes()));
    m
}
