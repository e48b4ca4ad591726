-- compatible-from: 0025
-- What templates and models are used for. Usage is data, and no resource: it is not in the log of changes. It refers to
-- nothing by foreign keys, since it outlives what it is of; it forgets users who are deleted.

-- The usages of each caller that are recorded, so that none counts twice.
create table usage_events (
  -- A digest: nothing here says whose.
  caller bytea not null,
  event_id text collate "C" not null,
  receive_time timestamptz not null default clock_timestamp(),
  constraint usage_events_pkey primary key (caller, event_id)
);

-- The purge.
create index usage_events_by_time on usage_events (receive_time);

create table usages (
  id uuid not null default gen_random_uuid(),
  time timestamptz not null,
  -- Here and below, empty and 0 are unknown, or none.
  template_id text collate "C" not null,
  template_revision bigint not null,
  -- The name that the type of the template had.
  template_type text collate "C" not null,
  model text collate "C" not null,
  user_id text collate "C" not null,
  organization_id text collate "C" not null,
  -- Microseconds.
  duration bigint not null,
  input_tokens bigint not null,
  cached_tokens bigint not null,
  output_tokens bigint not null,
  reasoning_tokens bigint not null,
  token_count bigint not null,
  success boolean not null,
  error_code text collate "C" not null
) partition by range (time);

-- Of a user, also to forget it.
create index usages_by_user on usages (user_id, time) where user_id <> '';

-- What is recorded and not yet summed up. It is moved into `usages` in the transaction that sums it up: so each usage is in one
-- of both, whenever and in whatever order transactions end.
create table usage_arrivals (like usages including defaults);

create type usage_level as enum ('model', 'organization', 'template_type', 'template', 'user');
create type usage_period as enum ('hour', 'day', 'month');

-- Sums for each level and period. A level has the columns that it is named after and those of the levels before it that its
-- questions need; the others are empty. All have the model, for its prices.
create table usage_totals (
  level usage_level not null,
  period usage_period not null,
  -- When the period begins, in UTC.
  time timestamptz not null,
  template_id text collate "C" not null,
  template_revision bigint not null,
  template_type text collate "C" not null,
  model text collate "C" not null,
  user_id text collate "C" not null,
  organization_id text collate "C" not null,
  count bigint not null,
  success_count bigint not null,
  input_tokens bigint not null,
  cached_tokens bigint not null,
  output_tokens bigint not null,
  reasoning_tokens bigint not null,
  token_count bigint not null,
  duration bigint not null,
  -- How many durations are in each bucket of usage_bucket().
  -- squawk-ignore prefer-bigint-over-smallint
  buckets smallint [] not null,
  bucket_counts bigint [] not null,
  constraint usage_totals_pkey primary key (
    level, period, time, template_id, template_revision, template_type, model, user_id, organization_id
  )
);

create index usage_totals_by_template on usage_totals (template_id, period, time) where level = 'template';
-- Also to forget a user.
create index usage_totals_by_user on usage_totals (user_id, period, time) where level = 'user';

-- Buckets grow by 4 percent, so the middle of one is within 2 percent of all in it. Their sums are those of the sums: a
-- DDSketch.
create function usage_bucket(microseconds bigint) returns smallint
language sql immutable parallel safe
return case when microseconds < 1 then -1 else ceil(ln(microseconds::double precision) / ln(1.04::double precision)) end;

create function merge_usage_buckets(
  inout buckets smallint [], inout bucket_counts bigint [], more smallint [], more_counts bigint []
)
language sql immutable parallel safe
begin atomic
  select array_agg(bucket order by bucket), array_agg(total order by bucket)
  from (
    select bucket, sum(number)::bigint as total
    from (
      select * from unnest(buckets, bucket_counts)
      union all
      select * from unnest(more, more_counts)
    ) both_of (bucket, number)
    group by bucket
  ) merged;
end;

-- Makes the partitions of all months between two times.
create function make_usage_partitions(earliest timestamptz, latest timestamptz) returns void
language plpgsql security definer
as $$
declare
  here text := (select relnamespace::regnamespace from pg_class where oid = 'usages'::regclass);
  month timestamp;
  name text;
begin
  for month in
    select generate_series(date_trunc('month', earliest at time zone 'UTC'), latest at time zone 'UTC', '1 month')
  loop
    name := to_char(month, '"usages_"YYYY_MM');
    if to_regclass(here || '.' || name) is null then
      execute format(
        'create table if not exists %s.%I partition of usages for values from (%L) to (%L)',
        here, name, month at time zone 'UTC', (month + '1 month') at time zone 'UTC'
      );
    end if;
  end loop;
end
$$;

-- Drops the oldest partition if all in it is older than so many days, and returns how many it has dropped.
create function drop_usage_partition(days integer) returns integer
language plpgsql security definer
as $$
declare
  oldest regclass := (
    select inhrelid::regclass from pg_inherits join pg_class on oid = inhrelid
    where inhparent = 'usages'::regclass order by relname limit 1
  );
  month timestamp := to_timestamp(right(oldest::text, 7), 'YYYY_MM');
begin
  if (month + '1 month') at time zone 'UTC' < clock_timestamp() - make_interval(days => greatest(days, 1)) then
    execute format('drop table %s', oldest);
    return 1;
  end if;
  return 0;
end
$$;

-- Adds sums, of which no two are of the same, to those that are there.
create function add_usage_totals(more usage_totals []) returns void
language sql
begin atomic
  insert into usage_totals as t
  select * from unnest(more)
  -- Two that run at once lock the same rows in the same order.
  order by level, period, time, template_id, template_revision, template_type, model, user_id, organization_id
  on conflict on constraint usage_totals_pkey do update set
    count = t.count + excluded.count,
    success_count = t.success_count + excluded.success_count,
    input_tokens = t.input_tokens + excluded.input_tokens,
    cached_tokens = t.cached_tokens + excluded.cached_tokens,
    output_tokens = t.output_tokens + excluded.output_tokens,
    reasoning_tokens = t.reasoning_tokens + excluded.reasoning_tokens,
    token_count = t.token_count + excluded.token_count,
    duration = t.duration + excluded.duration,
    (buckets, bucket_counts) = (
      select m.buckets, m.bucket_counts
      from merge_usage_buckets(t.buckets, t.bucket_counts, excluded.buckets, excluded.bucket_counts) m
    );
end;

-- Sums up to `most` usages up, and returns how many. Whoever reads before it is committed reads none of it, and afterwards
-- all of it.
create function roll_up_usage(most integer) returns integer
language plpgsql
as $$
declare
  picked tid [] := array(select ctid from usage_arrivals limit most for update skip locked);
  earliest timestamptz;
  latest timestamptz;
  more usage_totals [];
begin
  if picked = '{}' then
    return 0;
  end if;
  select min(time), max(time) into earliest, latest from usage_arrivals where ctid = any(picked);
  perform make_usage_partitions(earliest, latest);

  with arrived as (
    delete from usage_arrivals where ctid = any(picked) returning *
  ),
  moved as (
    insert into usages select * from arrived
  ),
  spread as (
    select
      level, period, date_trunc(period::text, time, 'UTC') as time,
      case level when 'template' then template_id else '' end as template_id,
      case level when 'template' then template_revision else 0 end as template_revision,
      case when level in ('template', 'template_type') then template_type else '' end as template_type,
      model,
      case level when 'user' then user_id else '' end as user_id,
      case level when 'model' then '' else organization_id end as organization_id,
      usage_bucket(duration) as bucket, count(*) as count, count(*) filter (where success) as success_count,
      sum(input_tokens) as input_tokens, sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(reasoning_tokens) as reasoning_tokens, sum(token_count) as token_count, sum(duration) as duration
    from arrived
    cross join unnest(enum_range(null::usage_level)) level
    cross join unnest(enum_range(null::usage_period)) period
    where (level, period) <> ('user', 'hour')
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
  )
  select array_agg(summed::usage_totals) into more from (
    select
      level, period, time, template_id, template_revision, template_type, model, user_id, organization_id,
      sum(count)::bigint, sum(success_count)::bigint, sum(input_tokens)::bigint, sum(cached_tokens)::bigint,
      sum(output_tokens)::bigint, sum(reasoning_tokens)::bigint, sum(token_count)::bigint, sum(duration)::bigint,
      array_agg(bucket order by bucket), array_agg(count order by bucket)
    from spread
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9
  ) summed;
  perform add_usage_totals(more);
  return cardinality(picked);
end
$$;

-- Whoever is deleted is nobody in all usage, however it is deleted.
create function forget_usage() returns trigger
language plpgsql security definer
as $$
declare
  forgotten text [];
  total usage_totals;
begin
  if tg_op = 'TRUNCATE' then
    forgotten := array(
      select user_id from usages union select user_id from usage_arrivals union select user_id from usage_totals
    );
  else
    forgotten := array(select id from gone);
  end if;
  update usage_arrivals set user_id = '' where user_id = any(forgotten);
  update usages set user_id = '' where user_id = any(forgotten) and user_id <> '';
  for total in
    delete from usage_totals where level = 'user' and user_id = any(forgotten) and user_id <> '' returning *
  loop
    total.user_id := '';
    perform add_usage_totals(array[total]);
  end loop;
  return null;
end
$$;

create trigger forget_usage after delete on users
  referencing old table as gone for each statement execute function forget_usage();
create trigger forget_all_usage after truncate on users for each statement execute function forget_usage();

do $$
declare
  definer regprocedure;
begin
  foreach definer in array array[
    'make_usage_partitions(timestamptz, timestamptz)', 'drop_usage_partition(integer)', 'forget_usage()'
  ]::regprocedure[] loop
    execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', definer, current_schema());
    execute format('revoke execute on function %s from public', definer);
  end loop;
end
$$;

select make_usage_partitions(now(), now() + interval '2 months');
