-- Settings that what is captured, or whether it can be captured, must not depend on. Replacing a function loses them.
do $$
declare
    f text;
begin
    foreach f in array array['on_ddl_end()', 'on_drop()', 'on_rewrite()', 'tick(boolean)', 'fill()'] loop
        execute 'alter function walcast.' || f
            || ' set search_path = pg_catalog, pg_temp set datestyle = ''ISO, YMD'' set intervalstyle = postgres set timezone = ''UTC'''
            || ' set extra_float_digits = 1 set bytea_output = hex set xmlbinary = base64 set lc_monetary = ''C'''
            || ' set quote_all_identifiers = off set standard_conforming_strings = on set row_security = off'
            || ' set transform_null_equals = off set array_nulls = on set plpgsql.extra_errors = ''none'''
            || ' set jit = off set plan_cache_mode = force_generic_plan set max_parallel_workers_per_gather = 0'
            -- commands look up single objects, whatever statistics say about a database that is new; the others read all
            || case when f like 'on\_%' then ' set enable_seqscan = off' else '' end;
    end loop;
end
$$;
