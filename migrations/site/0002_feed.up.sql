-- What a site that follows the signed feed keeps: the files it verified, to go on
-- from and to relay. The same tables as the master's.
create table segment (
  epoch     bigint not null,
  number    bigint not null check (number > 0),
  first     bigint not null check (first > 0),
  last      bigint not null check (last >= first),
  hash      bytea not null check (octet_length(hash) = 32),       -- SHA-256 of body
  note      bytea not null,                                       -- the sealing checkpoint, signed
  note_hash bytea not null check (octet_length(note_hash) = 32),  -- SHA-256 of the note's text
  body      bytea not null,
  leap      boolean not null,
  sealed_at timestamptz not null default clock_timestamp(),
  primary key (epoch, number),
  unique (epoch, last)
);
alter table segment alter body set storage external;  -- compressed already

create table feed_checkpoint (
  id       smallint primary key check (id = 1),
  epoch    bigint not null,
  number   bigint not null,
  position bigint not null,
  as_of    timestamptz not null,
  note     bytea not null
);

create table feed_keys (
  number bigint primary key check (number > 0),
  note   bytea not null
);

create table snapshot (
  epoch    bigint not null,
  position bigint not null,
  note     bytea not null,
  octets   bigint not null,
  made_at  timestamptz not null default clock_timestamp(),
  primary key (epoch, position)
);

create table snapshot_chunk (
  epoch    bigint not null,
  position bigint not null,
  i        int not null,
  body     bytea not null,
  primary key (epoch, position, i)
);
alter table snapshot_chunk alter body set storage external;

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

alter table segment owner to ocsp_owner;
alter table feed_checkpoint owner to ocsp_owner;
alter table feed_keys owner to ocsp_owner;
alter table snapshot owner to ocsp_owner;
alter table snapshot_chunk owner to ocsp_owner;
alter table feed_anchor owner to ocsp_owner;
alter table feed_fork owner to ocsp_owner;

grant select, insert on segment, feed_keys, feed_fork to ocsp_sync;
grant delete on segment to ocsp_sync;  -- those that a snapshot covers, long ago
grant select, insert, update on feed_checkpoint, feed_anchor to ocsp_sync;
grant select, insert, delete on snapshot, snapshot_chunk to ocsp_sync;
grant select on segment, feed_checkpoint, feed_keys, snapshot, snapshot_chunk, feed_anchor, feed_fork to ocsp_responder, ocsp_operator;
