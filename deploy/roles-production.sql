-- The roles of a deployment, without passwords in a file. Run it once, as a superuser, in the database:
--
--   psql "$ADMIN" -v ON_ERROR_STOP=1 -v owner_password="$(openssl rand -hex 24)" -v relay_password="$(openssl rand -hex 24)" -f roles-production.sql
--
-- What relay and app may do comes with `postrider migrate --grant-relay-no-stream relay --grant-app app`, run as postrider_owner.
-- Where the application has a role already, name that in place of app. docs/security.md tells what each can reach.
CREATE ROLE postrider_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE relay LOGIN PASSWORD :'relay_password';
SELECT 'CREATE ROLE app' WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'app') \gexec
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO postrider_owner', pg_catalog.current_database()) \gexec
