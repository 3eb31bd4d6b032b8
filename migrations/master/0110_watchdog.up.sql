-- No login below a superuser stops the master: a session that makes others wait for long
-- is ended.
set role ocsp_owner;

-- Logins whose transactions may last longer than 10 minutes (a dump, a large seed).
-- Set by a superuser.
create table ocsp_internal.long_transaction (
  login text primary key
);

-- Waits for the head like any writer and keeps its place: so it shows which session has it.
create function head_await() returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from public.feed_head for no key update;
end $$;

-- The sessions that make others wait, at the root of a chain of waits, and those whose
-- transaction is too old. waits: another session has waited for p_wait (at least a second);
-- head: session p_waiter, that waits for the head, waits for this one; idle: it does nothing
-- meanwhile; old: its transaction began over 10 minutes ago; spared: why it may not be
-- ended (empty: it may).
create function watch(p_own int[], p_waiter int, p_wait interval) returns table (pid int, started timestamptz, tx text, login text, application text,
    doing text, waits boolean, head boolean, idle boolean, old boolean, spared text)
  language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  with recursive edge as materialized (
    select w.pid, w.waitstart, b as blocker from (select l.pid, min(l.waitstart) as waitstart from pg_locks l where not l.granted group by l.pid) w,
      unnest(pg_blocking_pids(w.pid)) b),
  chain(pid, waits, head) as (
    select e.blocker, e.waitstart < clock_timestamp() - greatest(p_wait, interval '1 s'), e.pid = p_waiter from edge e
      join pg_stat_activity a on a.pid = e.pid and a.datname = current_database()  -- other databases' waits are their own
    union select e.blocker, c.waits, c.head from chain c join edge e on e.pid = c.pid),
  root as (
    select c.pid, bool_or(c.waits) as waits, bool_or(c.head) as head from chain c
      where c.pid not in (select e.pid from edge e) group by c.pid)
  select a.pid, a.backend_start, coalesce(a.backend_xid::text, a.xact_start::text, ''), coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
    concat_ws(', ', a.state, nullif('waits for ' || a.wait_event, 'waits for ClientRead'), 'since ' || date_trunc('second', a.xact_start)),
    coalesce(r.waits, false), coalesce(r.head, false), a.state is distinct from 'active' or a.wait_event is not distinct from 'PgSleep', o.old,
    case when a.usename is null then 'it is PostgreSQL''s own (' || a.backend_type || ')'
      when u.rolsuper then 'it is a superuser''s'
      when a.pid = any (p_own) then 'it is ocspsyncd''s own'
      when a.wait_event = 'SyncRep' then 'it waits for a standby'
      when a.state = 'active' and a.query ~* '^\s*(commit|end)\M' then 'it is committing' else '' end
  from pg_stat_activity a
  left join root r on r.pid = a.pid
  left join pg_roles u on u.rolname = a.usename,
  lateral (select a.datname = current_database() and a.xact_start < clock_timestamp() - interval '10 min' and a.usename is not null and not u.rolsuper
    and not (a.pid = any (p_own)) and not exists (select from ocsp_internal.long_transaction t where t.login = a.usename)) o(old)
  where r.pid is not null or o.old;
$$;

-- Ends a session that watch names and does not spare. False: it is gone, or goes on with
-- another transaction.
create function watch_end(p_own int[], p_waiter int, p_wait interval, p_pid int, p_started timestamptz, p_tx text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.refuse_trying('watch_end');
  return exists (select from public.watch(p_own, p_waiter, p_wait) t
    where t.pid = p_pid and t.started = p_started and t.tx = p_tx and t.spared = '' and (t.waits or t.head or t.old)) and pg_terminate_backend(p_pid);
end $$;

-- Enters what was ended into the audit; called apart, since an entry waits for the head.
create function watch_audit(p_login text, p_application text, p_pid int, p_doing text, p_why text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  select ocsp_internal.audit_append('watchdog end', jsonb_build_object('login', p_login, 'application', p_application, 'pid', p_pid, 'doing', p_doing), p_why, 'ocspsyncd');
$$;

reset role;

do $$
begin
  grant pg_signal_backend to ocsp_owner;  -- for watch_end; it reaches no superuser
exception when unique_violation or internal_error then null;  -- another database's migration does the same at this moment
end $$;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
