//! The rows: which names there are, and what is known of their files.

use chrono::{DateTime, Utc};
use kit_pg::{Client, PgError, Pool, Transaction};
use uuid::Uuid;

use crate::contents::Backend;

/// One stored file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub id: Uuid,
    pub backend: String,
    pub content_type: String,
    pub size: u64,
    pub sha512: Vec<u8>,
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "file_id, backend, type, size, sha512, updated_at";

fn file(row: &kit_pg::Row) -> File {
    let size: i64 = row.get(3);
    File {
        id: row.get(0),
        backend: row.get(1),
        content_type: row.get(2),
        size: u64::try_from(size).unwrap_or(0),
        sha512: row.get(4),
        updated_at: row.get(5),
    }
}

/// The file of a name.
pub(crate) async fn find(pool: &Pool, name: &str) -> Result<Option<File>, PgError> {
    let client = pool.client().await?;
    let question = format!("SELECT {COLUMNS} FROM files WHERE name = $1 AND deleted_at IS NULL");
    let row = client.query_opt(&question, &[&name]).await?;
    Ok(row.as_ref().map(file))
}

/// The names directly below `dir` (without a trailing slash; empty for the root), sorted by bytes.
/// Directories end with a slash.
pub(crate) async fn list(pool: &Pool, dir: &str) -> Result<Vec<String>, PgError> {
    let client = pool.client().await?;
    let question = "SELECT DISTINCT CASE WHEN position('/' in rest) > 0 \
                      THEN $1 || left(rest, position('/' in rest)) ELSE $1 || rest END COLLATE \"C\" \
                      AS entry \
                    FROM (SELECT substr(name, length($1) + 1) AS rest FROM files \
                      WHERE deleted_at IS NULL AND starts_with(name, $1)) AS below \
                    ORDER BY entry";
    let prefix = format!("{dir}/");
    let rows = client.query(question, &[&prefix]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What a finished write names.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    pub id: Uuid,
    pub backend: Backend,
    pub name: &'a str,
    pub content_type: &'a str,
    pub size: u64,
    pub sha512: &'a [u8],
}

/// What the name must point to when it is swapped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before {
    /// Whatever it was.
    Anything,
    /// Nothing.
    Nothing,
    /// This file.
    File(Uuid),
}

/// Points a name to a new file. False when the name was not as it must be.
pub(crate) async fn swap(pool: &Pool, new: &NewFile<'_>, before: Before) -> Result<bool, PgError> {
    let mut client = pool.client().await?;
    let transaction = client.transaction().await?;
    // A name that has no row cannot be locked by its row: those who make it take turns here.
    let turn = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    transaction.execute(turn, &[&new.name]).await?;
    let question = "SELECT file_id FROM files WHERE name = $1 AND deleted_at IS NULL FOR UPDATE";
    let row = transaction.query_opt(question, &[&new.name]).await?;
    let current: Option<Uuid> = row.map(|row| row.get(0));
    let fits = match before {
        Before::Anything => true,
        Before::Nothing => current.is_none(),
        Before::File(id) => current == Some(id),
    };
    if !fits {
        return Ok(false);
    }
    if let Some(current) = current {
        let order = "UPDATE files SET deleted_at = now() WHERE file_id = $1";
        transaction.execute(order, &[&current]).await?;
    }
    insert(&transaction, new).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn insert(transaction: &Transaction<'_>, new: &NewFile<'_>) -> Result<(), PgError> {
    let order = "INSERT INTO files (file_id, backend, name, type, size, sha512) \
                 VALUES ($1, $2, $3, $4, $5, $6)";
    let size = i64::try_from(new.size).unwrap_or(i64::MAX);
    let backend = new.backend.as_str();
    transaction
        .execute(order, &[&new.id, &backend, &new.name, &new.content_type, &size, &new.sha512])
        .await?;
    Ok(())
}

/// Takes a name, and every name below it, away.
pub(crate) async fn delete(pool: &Pool, name: &str) -> Result<(), PgError> {
    let client = pool.client().await?;
    let order = "UPDATE files SET deleted_at = now() \
                 WHERE deleted_at IS NULL AND (name = $1 OR starts_with(name, $1 || '/'))";
    client.execute(order, &[&name]).await?;
    Ok(())
}

/// Files without a name for longer than readers need, a batch of them.
pub(crate) async fn nameless(client: &Client, grace_seconds: f64) -> Result<Vec<File>, PgError> {
    let question = format!(
        "SELECT {COLUMNS} FROM files WHERE deleted_at < now() - make_interval(secs => $1) LIMIT 100"
    );
    let rows = client.query(&question, &[&grace_seconds]).await?;
    Ok(rows.iter().map(file).collect())
}

/// Forgets a file whose contents are gone.
pub(crate) async fn forget(client: &Client, id: Uuid) -> Result<(), PgError> {
    client.execute("DELETE FROM files WHERE file_id = $1", &[&id]).await?;
    Ok(())
}
