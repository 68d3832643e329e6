"""The tables of the store, and the chain of steps that brings an older database up to date.

Separate because the schema is a format: it outlives every program that reads it. Query modules own the statements;
this one owns the shape. A step, once released, is never edited: a change of shape is a new step at the end.

    inode     one row for each file and directory, clustered by (parent_id, name): a path costs one look-up for each
              component, and a page of a listing is one run of rows. Files are found by place, directories also by id
              (to walk upwards). The root is inode 1 in the place (0, ''). A tree that was removed recursively
              hangs in the place (0, '<its inode id>') and has a row in `detached`: nothing below it resolves.
    content   what a file's bytes are; several versions of a path are several contents. Its attributes live here.
    extent    the pieces of a content, by position in the file. In a draft, `position` is the index that the client
              chose; publishing turns it into the position.
    retired   contents whose path is gone or has another content now. A reader may still hold them: they are
              swept when `at_ms` is older than the grace.
    detached  roots of removed trees, which the sweeper takes apart.
    draft     staged uploads, with their files (contents), actions, and the chunks that they introduced. A row of
              draft_chunk counts as a reference of the whole chunk.
    chunk     referenced_bytes = lengths of all extents on it + its whole length for a draft_chunk row. 0 means
              garbage. A row stays as a tombstone (state deleted) until no commit could still accept its id.
              `released` is 1 since references were given up, until compaction has looked at it; what nothing refers
              to is not condemned before `keep_until_ms`, since readers may hold places in it that were moved.
    replica   where chunks are. `datanode` is datanode.num.
    orphan    replicas that datanodes report and no live chunk has (see `store.orphans`). `known`: the chunk is
              condemned or deleted, and only the deletion waits. `bad`: its datanode has verified it, and it is wrong.
    work      chunks that need something done, kept in the same transactions that make them need it.
    op_result what an operation answered, so that its repetition answers the same.
    change    what is needed to undo. `at_ms` and `principal` stand in the row n = 0 of each seq only.
    counters  the one row with the numbers given out last.
    datanode  `state` says whether it belongs to the cluster; `admin_state` what an operator decided about it.
    backup    contents that no path has: copies of this store, whole (kind 0) or what changed in (from_seq, to_seq] (1).
    rekey     datanodes that may register once more although they have the key of a secret that a restore replaced.
    meta      cluster_id, lineage, schema_version, and other single facts.

All ids of chunks, volumes, operations and drafts are 16-byte BLOBs. Names are TEXT compared as UTF-8 bytes. Times are
milliseconds of the namenode's wall clock and decide only when something is worth doing.
"""

from typing import Final

ROOT_INODE: Final = 1
NOWHERE: Final = 0
"""The parent of the root and of detached trees; no inode has this id."""

KIND_FILE: Final = 0
KIND_DIRECTORY: Final = 1

CHUNK_LIVE: Final = 0
CHUNK_CONDEMNED: Final = 1
CHUNK_DELETED: Final = 2

REPLICA_GOOD: Final = 0
REPLICA_BAD: Final = 1
REPLICA_SURPLUS: Final = 2
"""Good, but not needed: the others were verified, and its deletion is decided. It counts for nothing any more, so that
a namenode that starts anew cannot decide on a second one."""

BACKUP_SNAPSHOT: Final = 0
BACKUP_CHANGES: Final = 1

WORK_UNDER_REPLICATED: Final = 0
WORK_SUSPECT: Final = 1
WORK_SURPLUS: Final = 2

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    seq     INTEGER NOT NULL,
    inode   INTEGER NOT NULL,
    content INTEGER NOT NULL
) STRICT;

CREATE TABLE inode (
    parent_id  INTEGER NOT NULL,
    name       TEXT NOT NULL,
    id         INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    mode       INTEGER NOT NULL,
    owner      TEXT NOT NULL,
    grp        TEXT NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    content_id INTEGER,
    attributes TEXT,
    PRIMARY KEY (parent_id, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX directory_by_id ON inode (id) WHERE kind = 1;

CREATE TABLE content (
    id          INTEGER PRIMARY KEY,
    size        INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    replication INTEGER NOT NULL,
    attributes  TEXT
) STRICT;

CREATE TABLE extent (
    content_id   INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    chunk_id     BLOB NOT NULL,
    chunk_offset INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    digest       BLOB NOT NULL,
    PRIMARY KEY (content_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX extent_by_chunk ON extent (chunk_id);

CREATE TABLE retired (
    content_id INTEGER PRIMARY KEY,
    seq        INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL
) STRICT;
CREATE INDEX retired_by_time ON retired (at_ms);

CREATE TABLE detached (
    inode_id INTEGER PRIMARY KEY,
    seq      INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE draft (
    id         BLOB PRIMARY KEY,
    principal  TEXT NOT NULL,
    touched_ms INTEGER NOT NULL,
    extents    INTEGER NOT NULL,
    actions    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX draft_by_time ON draft (touched_ms);

CREATE TABLE draft_file (
    draft_id   BLOB NOT NULL,
    file       INTEGER NOT NULL,
    content_id INTEGER NOT NULL,
    PRIMARY KEY (draft_id, file)
) STRICT, WITHOUT ROWID;

CREATE TABLE draft_chunk (
    draft_id BLOB NOT NULL,
    chunk_id BLOB NOT NULL,
    PRIMARY KEY (draft_id, chunk_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE draft_action (
    draft_id BLOB NOT NULL,
    n        INTEGER NOT NULL,
    action   BLOB NOT NULL,
    PRIMARY KEY (draft_id, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunk (
    id               BLOB PRIMARY KEY,
    length           INTEGER NOT NULL,
    digest           BLOB NOT NULL,
    replication      INTEGER NOT NULL,
    referenced_bytes INTEGER NOT NULL,
    state            INTEGER NOT NULL,
    state_ms         INTEGER NOT NULL,
    layout           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX chunk_unreferenced ON chunk (state, id) WHERE referenced_bytes = 0;

CREATE TABLE replica (
    chunk_id  BLOB NOT NULL,
    datanode  INTEGER NOT NULL,
    volume    BLOB NOT NULL,
    state     INTEGER NOT NULL,
    since_seq INTEGER NOT NULL,
    PRIMARY KEY (chunk_id, datanode)
) STRICT, WITHOUT ROWID;
CREATE INDEX replica_by_datanode ON replica (datanode, chunk_id);

CREATE TABLE work (
    chunk_id      BLOB PRIMARY KEY,
    why           INTEGER NOT NULL,
    priority      INTEGER NOT NULL,
    since_ms      INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX work_by_priority ON work (priority, since_ms);

CREATE TABLE datanode (
    num           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    peer_url      TEXT NOT NULL,
    client_url    TEXT NOT NULL,
    rack          TEXT NOT NULL,
    version       TEXT NOT NULL,
    boot          BLOB NOT NULL,
    incarnation   INTEGER NOT NULL,
    state         TEXT NOT NULL,
    registered_ms INTEGER NOT NULL,
    volumes       BLOB NOT NULL
) STRICT;

CREATE TABLE op_result (
    op_id          BLOB PRIMARY KEY,
    request_digest BLOB NOT NULL,
    seq            INTEGER NOT NULL,
    at_ms          INTEGER NOT NULL,
    result         BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE change (
    seq            INTEGER NOT NULL,
    n              INTEGER NOT NULL,
    op             TEXT NOT NULL,
    inode_id       INTEGER NOT NULL,
    parent_id      INTEGER,
    name           TEXT,
    old_parent_id  INTEGER,
    old_name       TEXT,
    content_id     INTEGER,
    old_content_id INTEGER,
    before         BLOB,
    at_ms          INTEGER,
    principal      TEXT,
    PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;

INSERT INTO counters VALUES (1, 0, 1, 0);
"""

_ADMIN_STATES = """
ALTER TABLE datanode ADD COLUMN admin_state TEXT NOT NULL DEFAULT 'in_service';
ALTER TABLE datanode ADD COLUMN admin_until_ms INTEGER NOT NULL DEFAULT 0;
"""

_ORPHANS = """
CREATE TABLE orphan (
    chunk_id  BLOB NOT NULL,
    datanode  INTEGER NOT NULL,
    volume    BLOB NOT NULL,
    length    INTEGER NOT NULL,
    digest    BLOB NOT NULL,
    seen_ms   INTEGER NOT NULL,
    since_seq INTEGER NOT NULL,
    known     INTEGER NOT NULL,
    bad       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (chunk_id, datanode)
) STRICT, WITHOUT ROWID;
CREATE INDEX orphan_by_datanode ON orphan (datanode, chunk_id);
CREATE INDEX orphan_of_known ON orphan (chunk_id) WHERE known = 1;
"""

_COMPACTION = """
ALTER TABLE chunk ADD COLUMN released INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunk ADD COLUMN keep_until_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX chunk_released ON chunk (id) WHERE released = 1 AND referenced_bytes > 0 AND state = 0;
"""

_BACKUPS = """
CREATE TABLE backup (
    content_id INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,
    from_seq   INTEGER NOT NULL,
    to_seq     INTEGER NOT NULL,
    made_ms    INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    lineage    TEXT NOT NULL
) STRICT;
CREATE TABLE rekey (datanode TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""

STEPS: Final[tuple[str, ...]] = (_TABLES, _ADMIN_STATES, _ORPHANS, _COMPACTION, _BACKUPS)
"""Step i brings a database from schema version i to i + 1; each runs in one transaction with its new version."""

SCHEMA_VERSION: Final = len(STEPS)
