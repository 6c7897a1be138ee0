-- What was migrated is no secret: who watches an installation asks for it with an analyst's login.
GRANT SELECT ON public.traceflow_schema_migrations TO traceflow_analyst;
CREATE POLICY "Analysts can view" ON public.traceflow_schema_migrations FOR SELECT TO traceflow_analyst USING (true);
