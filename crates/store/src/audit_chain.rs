//! The audit chain: each record carries a keyed hash over itself and the record before it on the same node.
//!
//! An edited, removed, reordered or added record shows, and so does a chain that was cut at its end, because the head
//! is sealed too. The oldest records may be removed ([`prune`]): then a sealed row says where the chain begins. What is hashed are the values as the database keeps them, so a dump and restore changes nothing.
//! Replacing the whole database by an older copy of itself does not show here.

use crate::{AuditRecord, Db, Row, Statement, StoreError, Value};
use aws_lc_rs::hmac;
use uuid::Uuid;

/// The chain as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Every record is as it was written.
    Whole {
        /// How many records there are.
        records: u64,
    },
    /// The first damage.
    Broken {
        /// The node whose chain it is.
        node: String,
        /// The number of the record on that node, from 1.
        node_seq: i64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Reads the whole chain of every node and finds the first record that is not as it was written.
///
/// May run while servers append.
pub async fn verify(db: &Db, key: [u8; 32]) -> Result<Verification, StoreError> {
    let key = AuditKey::new(&key);
    let mut records = 0;
    // Heads first: records that are appended meanwhile are checked as well, and none that a head counts can be missing.
    let heads = db.rows(SELECT_HEADS, vec![]).await?;
    for (position, row) in heads.iter().enumerate() {
        let head = Head::from_row(row)?;
        let broken = |node_seq, what| Ok(Verification::Broken { node: head.name.clone(), node_seq, what });
        if usize::try_from(head.node).ok() != position.checked_add(1) {
            return broken(0, "the head of a node before it is missing");
        }
        if row.blob(4)? != head.seal(&key).as_slice() {
            return broken(head.node_seq, "the head was changed");
        }
        let mut start = head.beginning(&key, db).await?;
        loop {
            let found = match &start {
                Ok(start) => walk(db, &key, start.clone(), &head).await?,
                Err(what) => Err((0, *what)),
            };
            let again = head.beginning(&key, db).await?;
            match found {
                Ok(count) => records += count,
                // The oldest records were removed meanwhile.
                Err(_) if again != start => {
                    start = again;
                    continue;
                }
                Err((node_seq, what)) => return broken(node_seq, what),
            }
            break;
        }
    }
    // The commit that makes the organisation has the first record.
    if heads.is_empty() && db.row("SELECT 1 FROM organizations LIMIT 1", vec![]).await?.is_some() {
        return Ok(Verification::Broken {
            node: "any".into(),
            node_seq: 1,
            what: "every record and every head is missing",
        });
    }
    let strangers = vec![((heads.len() as i64 + 1) << NODE_SHIFT).into()];
    match db.row(SELECT_STRANGER, strangers).await? {
        None => Ok(Verification::Whole { records }),
        Some(row) => {
            let seq = row.int(0)?;
            let what = "the record is of a node without a head";
            Ok(Verification::Broken { node: (seq >> NODE_SHIFT).to_string(), node_seq: seq & NODE_SEQ_MAX, what })
        }
    }
}

/// Reads the chain of one node and counts its records, or says which record is the first that is not as it was written.
async fn walk(
    db: &Db,
    key: &AuditKey,
    mut chain: Head,
    head: &Head,
) -> Result<Result<u64, (i64, &'static str)>, StoreError> {
    let mut records = 0;
    loop {
        let page = db.rows(SELECT_PAGE, vec![chain.seq().into(), head.last_seq().into(), PAGE.into()]).await?;
        for row in &page {
            if let Err(what) = chain.step(key, row)? {
                return Ok(Err((chain.node_seq + 1, what)));
            }
            records += 1;
            if chain.node_seq == head.node_seq && chain.hash != head.hash {
                return Ok(Err((chain.node_seq, "the head is not that of this record")));
            }
        }
        if page.len() < PAGE as usize {
            break;
        }
    }
    match chain.node_seq < head.node_seq {
        true => Ok(Err((chain.node_seq + 1, "the record and those after it are missing"))),
        false => Ok(Ok(records)),
    }
}

/// A record that could be removed.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    /// When it was written, in milliseconds.
    pub at_millis: i64,
    /// Whose it is.
    pub organization: Option<Uuid>,
}

/// Removes the oldest records of every node for as long as `may_go` says so, at most `limit` of each, and says how many that
/// is. The newest record of a chain stays.
pub async fn prune(db: &Db, limit: u32, may_go: impl Fn(Oldest) -> bool) -> Result<(u64, Vec<Statement>), StoreError> {
    let key = db.audit_key().ok_or_else(|| StoreError::Engine("there is no audit key".into()))?;
    let (mut removed, mut statements) = (0, Vec::new());
    for row in db.rows(SELECT_HEADS, vec![]).await? {
        let head = Head::from_row(&row)?;
        let start = head.beginning(&key, db).await?.map_err(|what| StoreError::Corrupt(what.into()))?;
        let mut end = start.clone();
        let page = vec![start.seq().into(), head.seq().into(), i64::from(limit).into()];
        for row in db.rows(SELECT_OLDEST, page).await? {
            let oldest = Oldest { at_millis: row.int(1)?, organization: row.opt_uuid(2)? };
            if !may_go(oldest) {
                break;
            }
            end.node_seq += 1;
            end.hash = row.array(3)?;
            end.highest_at = end.highest_at.max(oldest.at_millis);
            if row.int(0)? != end.seq() {
                return Err(StoreError::Corrupt("a record of the audit is missing".into()));
            }
            removed += 1;
        }
        if end.node_seq > start.node_seq {
            statements.extend(end.begin_after(&key, &start));
        }
    }
    Ok((removed, statements))
}

/// The key of the chain.
#[derive(Clone)]
pub(crate) struct AuditKey(hmac::Key);

impl AuditKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
}

/// The end of the chain of one node, to which the next record is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    node: i64,
    name: String,
    node_seq: i64,
    hash: [u8; 32],
    highest_at: i64,
}

/// Reads the head of one node, by its name.
pub(crate) const SELECT_HEAD: &str =
    "SELECT node, name, node_seq, hash, seal, highest_at FROM audit_heads WHERE name = $1";

/// The number of the next node that is not known yet.
pub(crate) const SELECT_NEXT_NODE: &str = "SELECT COALESCE(MAX(node), 0) + 1 FROM audit_heads";

/// Appends one record; the parameters are those of [`Head::append`].
pub(crate) const INSERT_RECORD: &str = "INSERT INTO audit_records \
    (seq, at, organization_id, project_id, actor_kind, actor_id, actor_method, actor_credential, actor_address, \
     event, object_kind, object_id, detail, hash) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

/// Writes the head of a node that has none; the parameters are those of [`Head::insert`].
pub(crate) const INSERT_HEAD: &str = "INSERT INTO audit_heads (node, name, node_seq, hash, seal, highest_at) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

/// Moves the head of a node; changes no row when another process moved it. The parameters are those of [`Head::update`].
pub(crate) const UPDATE_HEAD: &str = "UPDATE audit_heads SET node_seq = $1, hash = $2, seal = $3, highest_at = $4 \
    WHERE node = $5 AND name = $6 AND node_seq = $7";

const SELECT_HEADS: &str = "SELECT node, name, node_seq, hash, seal, highest_at FROM audit_heads ORDER BY node";

const SELECT_PAGE: &str = "SELECT seq, at, organization_id, project_id, actor_kind, actor_id, actor_method, \
    actor_credential, actor_address, event, object_kind, object_id, detail, hash \
    FROM audit_records WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";

const SELECT_OLDEST: &str = "SELECT seq, at, organization_id, hash FROM audit_records WHERE seq > $1 AND seq < $2 \
    ORDER BY seq LIMIT $3";

const SELECT_START: &str = "SELECT node_seq, hash, seal, at FROM audit_starts WHERE node = $1";

const SELECT_BEFORE_START: &str = "SELECT 1 FROM audit_records WHERE seq > $1 AND seq <= $2 LIMIT 1";

const DELETE_OLDEST: &str = "DELETE FROM audit_records WHERE seq > $1 AND seq <= $2";

/// Another process that moved the start first makes this change no row.
const MOVE_START: &str = "INSERT INTO audit_starts (node, node_seq, hash, seal, at) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (node) DO UPDATE SET node_seq = excluded.node_seq, hash = excluded.hash, seal = excluded.seal, \
    at = excluded.at WHERE audit_starts.node_seq = $6";

const SELECT_STRANGER: &str =
    "SELECT seq FROM audit_records WHERE seq >= $1 OR seq <= 1099511627776 ORDER BY seq LIMIT 1";

/// How many records are read at once.
const PAGE: i64 = 1000;

/// Bits of a record's key that count the records of its node.
const NODE_SHIFT: u32 = 40;
const NODE_SEQ_MAX: i64 = (1 << NODE_SHIFT) - 1;

/// What the first record of a node is chained to.
const START: [u8; 32] = [0; 32];

impl Head {
    /// The number of the node.
    pub(crate) fn node(&self) -> i64 {
        self.node
    }

    /// The head of a node that has committed nothing yet.
    pub(crate) fn start(node: i64, name: &str) -> Self {
        Self { node, name: name.to_owned(), node_seq: 0, hash: START, highest_at: 0 }
    }

    /// The head as it is stored.
    pub(crate) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            node: row.int(0)?,
            name: row.string(1)?,
            node_seq: row.int(2)?,
            hash: row.array(3)?,
            highest_at: row.int(5)?,
        })
    }

    /// Appends a record: moves this head and gives the values for [`INSERT_RECORD`].
    pub(crate) fn append(&mut self, key: &AuditKey, record: &AuditRecord) -> Vec<Value> {
        self.node_seq += 1;
        self.highest_at = self.highest_at.max(record.at_millis);
        let mut values: Vec<Value> = vec![
            self.seq().into(),
            record.at_millis.into(),
            record.organization.into(),
            record.project.into(),
            record.actor_kind.into(),
            record.actor_id.into(),
            record.actor_method.into(),
            record.actor_credential.into(),
            record.actor_address.as_deref().into(),
            record.event.into(),
            record.object_kind.into(),
            record.object_id.into(),
            record.detail.as_str().into(),
        ];
        self.hash = self.hash_of(key, &values);
        values.push(self.hash.into());
        values
    }

    /// Whether there is a row of this head to update.
    pub(crate) fn is_stored(&self) -> bool {
        self.node_seq > 0
    }

    /// The values for [`INSERT_HEAD`].
    pub(crate) fn insert(&self, key: &AuditKey) -> Vec<Value> {
        vec![
            self.node.into(),
            self.name.as_str().into(),
            self.node_seq.into(),
            self.hash.into(),
            self.seal(key).into(),
            self.highest_at.into(),
        ]
    }

    /// The values for [`UPDATE_HEAD`].
    pub(crate) fn update(&self, key: &AuditKey, before: &Self) -> Vec<Value> {
        vec![
            self.node_seq.into(),
            self.hash.into(),
            self.seal(key).into(),
            self.highest_at.into(),
            self.node.into(),
            self.name.as_str().into(),
            before.node_seq.into(),
        ]
    }

    /// Where the chain of this head begins: what its first record follows.
    async fn beginning(&self, key: &AuditKey, db: &Db) -> Result<Result<Self, &'static str>, StoreError> {
        let mut start = Self { node_seq: 0, hash: START, highest_at: 0, ..self.clone() };
        let Some(row) = db.row(SELECT_START, vec![self.node.into()]).await? else { return Ok(Ok(start)) };
        let first = start.seq();
        (start.node_seq, start.hash, start.highest_at) = (row.int(0)?, row.array(1)?, row.int(3)?);
        if row.blob(2)? != start.start_seal(key).as_slice() || start.node_seq > self.node_seq {
            return Ok(Err("where the chain begins was changed"));
        }
        match db.row(SELECT_BEFORE_START, vec![first.into(), start.seq().into()]).await? {
            None => Ok(Ok(start)),
            Some(_) => Ok(Err("there is a record before the beginning of the chain")),
        }
    }

    /// Removes what is between the former beginning of a chain and this one.
    fn begin_after(&self, key: &AuditKey, former: &Self) -> [Statement; 2] {
        let moved = vec![
            self.node.into(),
            self.node_seq.into(),
            self.hash.into(),
            self.start_seal(key).into(),
            self.highest_at.into(),
            former.node_seq.into(),
        ];
        [
            Statement::new(MOVE_START, moved).expect_one("the chain of the audit begins where it did"),
            Statement::new(DELETE_OLDEST, vec![former.seq().into(), self.seq().into()]),
        ]
    }

    /// Proves where the chain begins.
    fn start_seal(&self, key: &AuditKey) -> [u8; 32] {
        let mut message = Vec::with_capacity(128);
        encode(&mut message, &"audit start 1".into());
        encode(&mut message, &self.node.into());
        encode(&mut message, &self.name.as_str().into());
        encode(&mut message, &self.node_seq.into());
        encode(&mut message, &self.hash.into());
        encode(&mut message, &self.highest_at.into());
        sign(key, &message)
    }

    /// Checks the next record that was read and moves this head over it.
    fn step(&mut self, key: &AuditKey, row: &Row) -> Result<Result<(), &'static str>, StoreError> {
        let mut next = Self { node_seq: self.node_seq + 1, ..self.clone() };
        if row.int(0)? != next.seq() {
            return Ok(Err("the record is missing"));
        }
        let mut values = row.clone().into_values();
        let stored = values.pop();
        next.hash = self.hash_of(key, &values);
        if stored != Some(next.hash.into()) {
            return Ok(Err("the record was changed"));
        }
        *self = next;
        Ok(Ok(()))
    }

    fn seq(&self) -> i64 {
        (self.node << NODE_SHIFT) | self.node_seq
    }

    fn last_seq(&self) -> i64 {
        (self.node << NODE_SHIFT) | NODE_SEQ_MAX
    }

    /// The hash of a record that follows this head: over the node's name, the hash before, and all values but the hash.
    fn hash_of(&self, key: &AuditKey, values: &[Value]) -> [u8; 32] {
        let mut message = Vec::with_capacity(512);
        encode(&mut message, &"audit record 1".into());
        encode(&mut message, &self.name.as_str().into());
        encode(&mut message, &self.hash.into());
        values.iter().for_each(|value| encode(&mut message, value));
        sign(key, &message)
    }

    /// Proves where the chain ends.
    fn seal(&self, key: &AuditKey) -> [u8; 32] {
        let mut message = Vec::with_capacity(128);
        encode(&mut message, &"audit head 1".into());
        encode(&mut message, &self.node.into());
        encode(&mut message, &self.name.as_str().into());
        encode(&mut message, &self.node_seq.into());
        encode(&mut message, &self.hash.into());
        encode(&mut message, &self.highest_at.into());
        sign(key, &message)
    }
}

fn sign(key: &AuditKey, message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&key.0, message);
    tag.as_ref().try_into().expect("HMAC-SHA256 gives 32 octets")
}

/// A value as its kind, its length and its octets, so that no two lists of values read the same.
fn encode(message: &mut Vec<u8>, value: &Value) {
    let (kind, octets): (u8, &[u8]) = match value {
        Value::Null => (0, &[]),
        Value::Int(integer) => {
            message.push(1);
            message.extend_from_slice(&integer.to_be_bytes());
            return;
        }
        Value::Text(text) => (2, text.as_bytes()),
        Value::Blob(blob) => (3, blob),
    };
    message.push(kind);
    message.extend_from_slice(&(octets.len() as u64).to_be_bytes());
    message.extend_from_slice(octets);
}
