-- What the schema is made of, one fact a row: what it is called, what it is, the statements
-- that make it where it is missing, and those that make it so where it is otherwise (null:
-- none does without losing what is there). The name ends with "on TABLE" where it is part
-- of one. What a function does is told by the digest of its text. Of a view only the
-- columns count: PostgreSQL's versions word one text differently.
set local search_path = pg_catalog, pg_temp;
set local timezone = 'UTC';
set local datestyle = 'ISO, MDY';
set local intervalstyle = 'postgres';
set local quote_all_identifiers = off;
set local bytea_output = hex;

with ours as (select oid, nspname from pg_namespace where nspname in ('public', 'ocsp_internal', 'ocsp_feed')),
rel as (
  select c.*, format('%I.%I', nspname, relname) as name,
      case relowner::regrole::text when 'ocsp_owner' then 'ocsp_owner' else 'current_user' end as keeper
    from pg_class c join ours on ours.oid = relnamespace where relkind in ('r', 'v', 'S')),
func as (
  select p.*, format('%I.%I(%s)', nspname, proname, replace(oidvectortypes(proargtypes), ', ', ',')) as name,
      case proowner::regrole::text when 'ocsp_owner' then 'ocsp_owner' else 'current_user' end as keeper
    from pg_proc p join ours on ours.oid = pronamespace where prokind in ('f', 'p')),
col as (
  select rel.name, rel.relkind, attname, attnum, attgenerated <> '' or attidentity <> '' as made,
      format_type(atttypid, atttypmod) as type, attnotnull, pg_get_expr(adbin, adrelid) as expr,
      case when attgenerated <> '' then format(' generated always as (%s) stored', pg_get_expr(adbin, adrelid))
           when attidentity <> '' then format(' generated %s as identity', case attidentity when 'a' then 'always' else 'by default' end)
           else coalesce(' default ' || pg_get_expr(adbin, adrelid), '') end as value
    from pg_attribute join rel on rel.oid = attrelid left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attnum > 0 and not attisdropped and rel.relkind in ('r', 'v'))
select 'table ' || name as object,
    concat_ws(' ', case relpersistence when 'p' then 'logged' else 'without a log' end, case when relrowsecurity then 'with row security' end,
      'replica identity ' || case relreplident when 'd' then 'default' when 'n' then 'nothing' when 'f' then 'full' else 'an index' end) as definition,
    format('create table %s (); alter table %1$s owner to %s', name, keeper) as make,
    format('alter table %s set logged, disable row level security, replica identity %s', name, case relreplident when 'f' then 'full' else 'default' end) as mend
  from rel where relkind = 'r'
union all select 'view ' || name, '', format('create view %1$s as %2$s; alter view %1$s owner to %3$s', name, pg_get_viewdef(oid), keeper), null from rel where relkind = 'v'
union all select 'sequence ' || name, '', format('create sequence %s cache 1; alter sequence %1$s owner to %s', name, keeper), null from rel where relkind = 'S'
  and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = rel.oid and deptype = 'i')
union all select format('column %I on %s', attname, name), type || case when attnotnull then ' not null' else '' end || value,
    case relkind when 'r' then format('alter table %s add column %I %s%s%s', name, attname, type, value, case when attnotnull then ' not null' else '' end) end,
    case when relkind = 'r' and not made then format('alter table %1$s alter %2$I drop default; do $do$ begin
      if (select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %6$L::regclass and attname = %7$L) <> %3$L then
        alter table %1$s alter %2$I type %3$s using %2$I::%3$s;
      end if; end $do$; alter table %1$s alter %2$I %4$s not null%5$s', name, attname, type, case when attnotnull then 'set' else 'drop' end,
      case when expr is not null then format(', alter %I set default %s', attname, expr) end, name, attname) end
  from col
union all select format('constraint %I on %s', conname, name),
    pg_get_constraintdef(c.oid) || case when exists (select from pg_trigger where tgconstraint = c.oid and tgenabled <> 'O') then ' switched off' else '' end,
    format('alter table %s add constraint %I %s', name, conname, pg_get_constraintdef(c.oid)),
    format('alter table %s drop constraint %I cascade; alter table %1$s add constraint %2$I %s', name, conname, pg_get_constraintdef(c.oid))
  from pg_constraint c join rel on rel.oid = conrelid where contype in ('p', 'u', 'c', 'f', 'x')
union all select format('%sindex %I on %s', case when indisunique then 'unique ' else '' end, i.relname, name),
    pg_get_indexdef(i.oid) || case when indisvalid and indisready then '' else ' not valid' end,
    pg_get_indexdef(i.oid), format('drop index %s; %s', i.oid::regclass, pg_get_indexdef(i.oid))
  from pg_index x join rel on rel.oid = indrelid join pg_class i on i.oid = indexrelid
  where not exists (select from pg_constraint where conindid = i.oid and contype in ('p', 'u', 'x'))
union all select format('trigger %I on %s', tgname, name),
    case tgenabled when 'O' then '' when 'A' then 'always ' when 'R' then 'at replicas alone ' else 'switched off ' end || pg_get_triggerdef(t.oid),
    format('%s; alter table %s enable %strigger %I', pg_get_triggerdef(t.oid), name, case tgenabled when 'A' then 'always ' else '' end, tgname),
    format('drop trigger %1$I on %2$s; %3$s; alter table %2$s enable %4$strigger %1$I', tgname, name, pg_get_triggerdef(t.oid), case tgenabled when 'A' then 'always ' else '' end)
  from pg_trigger t join rel on rel.oid = tgrelid where not tgisinternal
union all select format('rule %I on %s', rulename, name), pg_get_ruledef(r.oid), null, null
  from pg_rewrite r join rel on rel.oid = ev_class where relkind = 'r'
union all select 'function ' || name,
    left(encode(sha256(convert_to(concat_ws('|', pg_get_function_arguments(oid), pg_get_function_result(oid), (select lanname from pg_language where pg_language.oid = prolang), provolatile, prosecdef,
      proisstrict, proparallel, proconfig, coalesce(translate(pg_get_function_sqlbody(oid), E'() \n\t', ''), prosrc)), 'UTF8')), 'hex'), 16),
    format('%s; alter function %s owner to %s', pg_get_functiondef(oid), name, keeper), pg_get_functiondef(oid)
  from func
order by 1;
