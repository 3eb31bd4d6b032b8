-- What a site that follows the signed feed keeps beside its verified files.

-- The seal that the copy in the tables stands on: the next segment continues it.
create table feed_anchor (
  id        smallint primary key check (id = 1),
  epoch     bigint not null,
  number    bigint not null,
  hash      bytea not null check (octet_length(hash) = 32),
  note_hash bytea not null check (octet_length(note_hash) = 32)
);

-- Two signed statements that contradict each other, for people to judge.
create table feed_fork (
  id     bigint generated always as identity primary key,
  at     timestamptz not null default clock_timestamp(),
  source text not null,
  why    text not null,
  ours   bytea not null,
  theirs bytea not null,
  unique (ours, theirs)
);

alter table feed_anchor owner to ocsp_owner;
alter table feed_fork owner to ocsp_owner;

grant select, insert on segment, feed_keys, feed_fork to ocsp_sync;
grant delete on segment to ocsp_sync;  -- those that a snapshot covers, long ago
grant select, insert, update on feed_checkpoint, feed_anchor to ocsp_sync;
grant select, insert, delete on snapshot, snapshot_chunk to ocsp_sync;
grant select on segment, feed_checkpoint, feed_keys, snapshot, snapshot_chunk, feed_anchor, feed_fork to ocsp_responder, ocsp_operator;
