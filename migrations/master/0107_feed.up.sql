-- The signed feed at the master: segments, checkpoints, snapshots, key sets and forks.
set role ocsp_owner;

-- Two publishers at one master, or one with an old snapshot, must not sign two
-- histories: what does not continue the last segment is refused.
create function ocsp_internal.segment_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' then
    raise exception 'segment % is sealed for ever', old.number using errcode = 'integrity_constraint_violation';
  end if;
  if (select coalesce(max(number), 0) + 1 from ocsp_internal.segment where epoch = new.epoch) <> new.number
     or (select coalesce(max(last), 0) + 1 from ocsp_internal.segment where epoch = new.epoch) <> new.first then
    raise exception 'segment % from position % does not continue the last one', new.number, new.first
      using errcode = 'integrity_constraint_violation', hint = 'Only one ocspsyncd publishes the feed of a master.';
  end if;
  return new;
end $$;
create trigger guard before insert or update on ocsp_internal.segment for each row execute function ocsp_internal.segment_guard();

-- ---------------------------------------------------------------- the sealer's doors
-- ocspsyncd's login writes the signed files by these alone: they add, and never change
-- what was signed. Nothing goes in that the head contradicts, so that no number and no
-- position is taken which the master has not reached.

create function segment_append(p_epoch bigint, p_number bigint, p_first bigint, p_last bigint, p_hash bytea, p_note bytea, p_note_hash bytea, p_snapshot_required boolean, p_body bytea)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  h public.feed_head;
begin
  select * into h from public.feed_head;
  if h.epoch is distinct from p_epoch or p_last > h.position then
    raise exception 'segment % ends at position % of epoch %, the head is at % of %', p_number, p_last, p_epoch, h.position, h.epoch
      using errcode = 'check_violation';
  elsif sha256(p_body) <> p_hash or octet_length(p_note) > 8192 then
    raise exception 'segment % is not of the form', p_number using errcode = 'check_violation';
  end if;
  insert into ocsp_internal.segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body)
    values (p_epoch, p_number, p_first, p_last, p_hash, p_note, p_note_hash, p_snapshot_required, p_body);
end $$;

-- The newest checkpoint: of the newest segment, and not from after the head's time.
create function checkpoint_put(p_epoch bigint, p_number bigint, p_position bigint, p_as_of timestamptz, p_note bytea)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  h public.feed_head;
begin
  select * into h from public.feed_head;
  if h.epoch is distinct from p_epoch or p_as_of > h.as_of
     or (select coalesce(max(number), 0) from ocsp_internal.segment where epoch = p_epoch) <> p_number
     or (select coalesce(max(last), 0) from ocsp_internal.segment where epoch = p_epoch) <> p_position
     or octet_length(p_note) > 8192 then
    raise exception 'checkpoint of segment %, position %, is not of what was sealed', p_number, p_position using errcode = 'check_violation';
  end if;
  insert into ocsp_internal.feed_checkpoint values (1, p_epoch, p_number, p_position, p_as_of, p_note) on conflict (id) do update
    set epoch = excluded.epoch, number = excluded.number, position = excluded.position, as_of = excluded.as_of, note = excluded.note;
end $$;

-- The number of the segment that snapshot s names: a site that loads it goes on with the
-- next one, which may end at the snapshot's position or before it.
create function ocsp_internal.snapshot_number(s ocsp_internal.snapshot) returns bigint language sql stable set search_path = pg_catalog, pg_temp as
  $$ select substring(encode(s.note, 'escape') from E'\nsegment ([0-9]{1,18})\n')::bigint $$;

-- Segments that were sealed longer ago than p_keep, and that every kept snapshot of
-- their epoch covers, go; those of earlier epochs by age alone. The newest one stays.
create function segment_trim(p_keep interval) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  n bigint;
begin
  delete from ocsp_internal.segment g where sealed_at < clock_timestamp() - p_keep
    and (g.number <= (select min(ocsp_internal.snapshot_number(s)) from ocsp_internal.snapshot s where s.epoch = g.epoch)
           and g.number < (select max(number) from ocsp_internal.segment n where n.epoch = g.epoch)
         or g.epoch < (select epoch from public.feed_head));
  get diagnostics n = row_count;
  return n;
end $$;

-- A snapshot is begun, gets its chunks, and is ended with its manifest, all in one
-- transaction. The two newest stay: a site that began to fetch the last but one may end.
create function snapshot_begin(p_epoch bigint, p_position bigint) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  made bigint;
begin
  insert into ocsp_internal.snapshot (epoch, position, note, octets)
    select p_epoch, p_position, '', 0 from public.feed_head h where h.epoch = p_epoch and h.position >= p_position
    returning id into made;
  if made is null then
    raise exception 'a snapshot of position % in epoch % is not of what the master holds', p_position, p_epoch using errcode = 'check_violation';
  end if;
  return made;
end $$;

create function snapshot_chunk_add(p_snapshot bigint, p_i int, p_body bytea) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from ocsp_internal.snapshot where id = p_snapshot and octet_length(note) = 0) then
    raise exception 'snapshot % is not being made', p_snapshot using errcode = 'check_violation';
  end if;
  insert into ocsp_internal.snapshot_chunk (snapshot, i, body) values (p_snapshot, p_i, p_body);
end $$;

create function snapshot_end(p_snapshot bigint, p_note bytea, p_octets bigint) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if octet_length(p_note) not between 1 and 1048576 then
    raise exception 'the manifest of a snapshot has at most 1 MiB' using errcode = 'check_violation';
  end if;
  update ocsp_internal.snapshot set note = p_note, octets = p_octets where id = p_snapshot and octet_length(note) = 0;
  if not found then
    raise exception 'snapshot % is not being made', p_snapshot using errcode = 'check_violation';
  end if;
  with old as (
    delete from ocsp_internal.snapshot where id not in (select id from ocsp_internal.snapshot order by epoch desc, position desc, id desc limit 2) returning id)
  delete from ocsp_internal.snapshot_chunk where snapshot in (select id from old);
end $$;

-- ---------------------------------------------------------------- key sets

-- Key sets that staff brought wait here: a database cannot verify the root's signature.
create table ocsp_internal.feed_keys_offered (
  id      bigint generated always as identity primary key,
  at      timestamptz not null default clock_timestamp(),
  db_role text not null default session_user,
  note    bytea not null check (octet_length(note) between 1 and 8192)
);

-- Staff's door. ocspsyncd decides within a second, so that few ever wait.
create function feed_keys_offer(p_note bytea, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from ocsp_internal.feed_keys where note = p_note) or exists (select from ocsp_internal.feed_keys_offered where note = p_note) then
    return false;
  elsif octet_length(p_note) not between 1 and 8192 then
    raise exception 'a key set has at most 8192 octets, not %', octet_length(p_note) using errcode = 'check_violation';
  elsif (select count(*) >= 4 from ocsp_internal.feed_keys_offered where db_role = session_user) then
    raise exception '4 key sets that login % has brought wait for a decision', session_user using errcode = 'program_limit_exceeded',
      hint = 'ocspsyncd at the master decides on them within a second: start it, and look at its log.';
  end if;
  insert into ocsp_internal.feed_keys_offered (note) values (p_note);
  perform ocsp_internal.audit_append('feed keys publish', jsonb_build_object('sha256', encode(sha256(p_note), 'hex')), p_why, p_os_user);
  return true;
end $$;

-- ocspsyncd's door, once it has verified the signature of an offer: the offer comes into
-- force under its number, or goes.
create function feed_keys_decide(p_offer bigint, p_number bigint, p_refused text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  o ocsp_internal.feed_keys_offered;
begin
  delete from ocsp_internal.feed_keys_offered where id = p_offer returning * into o;
  if not found then
    return;  -- another ocspsyncd was faster
  end if;
  if p_number is not null then
    insert into ocsp_internal.feed_keys (number, note) values (p_number, o.note) on conflict do nothing;
  end if;
  perform ocsp_internal.audit_append(case when p_number is null then 'feed keys refuse' else 'feed keys take' end,
    jsonb_strip_nulls(jsonb_build_object('number', p_number, 'sha256', encode(sha256(o.note), 'hex'), 'brought_by', o.db_role, 'refused', left(p_refused, 500))),
    '', 'ocspsyncd');
end $$;

-- ---------------------------------------------------------------- forks

-- Two statements that a site found to contradict each other, as it handed them in. The
-- reader verifies by the newest key set which keys signed them.
create table ocsp_internal.feed_fork (
  id      bigint generated always as identity primary key,
  at      timestamptz not null default clock_timestamp(),
  site    text not null references ocsp_internal.responder,
  why     text not null check (octet_length(why) <= 1024),
  ours    bytea not null check (octet_length(ours) <= 8192),
  theirs  bytea not null check (octet_length(theirs) <= 8192),
  settled timestamptz  -- two persons have looked into it
);
create unique index feed_fork_once on ocsp_internal.feed_fork (site, sha256(ours), sha256(theirs));

-- ocspsyncd's door: a site, known by its TLS key, hands in its evidence. True: it was
-- settled. Of one site 16 wait at most: the first ones are enough to act on.
create function feed_fork_report(p_site text, p_why text, p_ours bytea, p_theirs bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  at timestamptz;
begin
  select settled into at from ocsp_internal.feed_fork where site = p_site and ours = p_ours and theirs = p_theirs;
  if not found then
    insert into ocsp_internal.feed_fork (site, why, ours, theirs) select name, left(p_why, 200), p_ours, p_theirs from ocsp_internal.responder
      where name = p_site and (select count(*) < 16 from ocsp_internal.feed_fork where site = p_site and settled is null);
  end if;
  return at is not null;
end $$;

-- The forks that two persons are to settle: those named, or all that are open now.
create function ocsp_internal.forks_filed(p_what jsonb) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  named constant bigint[] := (select array_agg(e::bigint) from jsonb_array_elements_text(p_what->'forks') e);
  forks jsonb;
begin
  select jsonb_agg(id order by id) into forks from ocsp_internal.feed_fork where settled is null and (named is null or id = any(named));
  if forks is null or jsonb_array_length(forks) <> coalesce(cardinality(named), jsonb_array_length(forks)) then
    raise exception 'there is no such open fork' using errcode = 'no_data_found', hint = 'ocspctl fleet status shows the open ones.';
  end if;
  return jsonb_build_object('forks', forks);
end $$;

create function ocsp_internal.forks_settle(p_what jsonb) returns void language sql set search_path = pg_catalog, pg_temp as $$
  update ocsp_internal.feed_fork set settled = clock_timestamp()
    where settled is null and id in (select e::bigint from jsonb_array_elements_text(p_what->'forks') e)
$$;

-- When each site fetched from the master last, and how far it was: for people, and for the
-- pace of imports.
create table ocsp_internal.feed_client (
  site     text primary key references ocsp_internal.responder,
  position bigint not null,     -- that the site said it has
  seen_at  timestamptz not null,
  form     int not null         -- the newest form of the notes that it reads
);

-- Of a key set nothing but its content is an identity that is published.
alter table ocsp_internal.feed_keys replica identity full;

reset role;

-- The signed files for native sites, by a subscription of their own; snapshots they do not
-- need.
create publication ocspfleet_files for table
  ocsp_internal.segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body),
  ocsp_internal.feed_checkpoint (id, epoch, number, position, as_of, note),
  ocsp_internal.feed_keys
  with (publish = 'insert, update, delete');

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
