-- What a site that follows the signed feed keeps beside its verified files.
set role ocsp_owner;

-- The seal that the copy in the tables stands on: the next segment continues it.
create table ocsp_internal.feed_anchor (
  id        smallint primary key check (id = 1),
  epoch     bigint not null,
  number    bigint not null,
  hash      bytea not null check (octet_length(hash) = 32),
  note_hash bytea not null check (octet_length(note_hash) = 32)
);

-- Two signed statements that contradict each other, for people to judge. They count while
-- the newest key set admits both.
create table ocsp_internal.feed_fork (
  id     bigint generated always as identity primary key,
  at     timestamptz not null default clock_timestamp(),
  source text not null,
  why    text not null,
  ours   bytea not null,
  theirs bytea not null,
  settled timestamptz  -- the master said that two persons have looked into it
);
-- What is shown against this site's own history counts once, however that goes on.
create unique index feed_fork_once on ocsp_internal.feed_fork (sha256(theirs));

reset role;

-- Nothing of ours is everybody's: rights.txt says what each role may (package migrations).
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
