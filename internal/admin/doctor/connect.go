package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/admin"
)

// connectRemedy says what mends a connection that cannot be opened. A server's answer tells more than what went wrong on the way to
// it: where TLS is optional, a try without it follows one that failed.
func connectRemedy(err error, databaseURL string) []string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverRemedy(pgErr, databaseURL)
	}
	if remedy := tlsRemedy(err); remedy != "" {
		return []string{remedy}
	}
	return []string{"check host and port in POSTRIDER_DATABASE_URL, listen_addresses on the server and firewalls in between"}
}

// serverRemedy goes by codes and, where one has several causes, by the place in PostgreSQL's source: messages are translated.
func serverRemedy(err *pgconn.PgError, databaseURL string) []string {
	role, database := connectingAs(databaseURL)
	switch err.Code {
	case "28P01":
		return []string{"check user and password in POSTRIDER_DATABASE_URL, and pg_hba.conf on the server"}
	case "28000":
		if err.Routine == "ClientAuthentication" && wantsNoTLS(databaseURL) {
			return []string{"the server may want TLS (hostssl in pg_hba.conf): set sslmode=require, or verify-full with sslrootcert, in POSTRIDER_DATABASE_URL",
				"else check user and password there, and pg_hba.conf on the server"}
		}
		return []string{"check user and password in POSTRIDER_DATABASE_URL, and pg_hba.conf on the server"}
	case "3D000":
		return []string{"check the database in POSTRIDER_DATABASE_URL, or make it with CREATE DATABASE"}
	case "53300":
		switch err.Routine {
		case "InitializeSessionUserId":
			return []string{fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT 50;  -- the role's own limit, not the server's", quoteName(role))}
		case "CheckMyDatabase":
			return []string{fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT 100;  -- the database's own limit, not the server's", quoteName(database))}
		}
		return append([]string{"close idle sessions, or:"}, alterSystem("max_connections", "200")...)
	}
	return nil
}

// tlsRemedy tells what is wrong with TLS, if that is what is wrong.
func tlsRemedy(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unknown):
		return "TLS: nobody whom this host trusts has signed the server's certificate: name its authority with sslrootcert=/path/ca.pem in POSTRIDER_DATABASE_URL"
	case errors.As(err, &host):
		return "TLS: the server's certificate is for another name: use that name in POSTRIDER_DATABASE_URL, or sslmode=verify-ca"
	case errors.As(err, &invalid):
		return "TLS: the server's certificate is not valid (" + invalid.Error() + "): renew it, and check the clock of this host"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "TLS: the server has it off: ALTER SYSTEM SET ssl = on (it takes a certificate), or sslmode=disable in POSTRIDER_DATABASE_URL where the network is trusted"
	case errors.As(err, &record), errors.As(err, &alert), strings.Contains(err.Error(), "tls:"):
		return "TLS: the two sides do not agree: check sslmode, sslcert, sslkey and sslrootcert in POSTRIDER_DATABASE_URL, and ssl_min_protocol_version on the server"
	}
	return ""
}

// connectingAs returns the role and the database of a connection string.
func connectingAs(databaseURL string) (role, database string) {
	config, err := admin.ConnConfig(databaseURL)
	if err != nil {
		return "", ""
	}
	return config.User, config.Database
}

// wantsNoTLS says whether the connection string leaves TLS off.
func wantsNoTLS(databaseURL string) bool {
	config, err := admin.ConnConfig(databaseURL)
	return err == nil && config.TLSConfig == nil
}

// room is what is left of one limit on connections.
type room struct {
	most, used int
	what       string
	remedy     []string
}

// checkConnections looks at what is left of the limits on connections: the server's, the database's and the role's. A relay takes up
// to ten.
func (d *examination) checkConnections(ctx context.Context) error {
	const needed = 10
	var server, database, role room
	var superuser bool
	var databaseName string
	// Slots that are set aside for others exist from 16 on.
	err := d.db.QueryRow(ctx, `
		SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
		           - CASE WHEN r.rolsuper OR $1 THEN 0 ELSE coalesce(current_setting('reserved_connections', true), '0')::int END,
		       (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database),
		       b.datname, b.datconnlimit, (SELECT count(*)::int FROM pg_stat_activity a WHERE a.datid = b.oid AND a.backend_type = 'client backend'),
		       r.rolconnlimit, (SELECT count(*)::int FROM pg_stat_activity a WHERE a.usesysid = r.oid), r.rolsuper
		FROM pg_roles r, pg_database b WHERE r.rolname = session_user AND b.datname = current_database()`, d.version >= 160000 && d.mayUseReserved(ctx)).
		Scan(&server.most, &server.used, &databaseName, &database.most, &database.used, &role.most, &role.used, &superuser)
	if err != nil {
		return err
	}
	server.what = "connections are taken"
	server.remedy = append([]string{"close idle sessions, or:"}, alterSystem("max_connections", fmt.Sprint(server.most+needed+20))...)
	database.what = fmt.Sprintf("connections that database %q may have are taken", databaseName)
	database.remedy = []string{fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d;", quoteName(databaseName), database.most+needed+20)}
	role.what = fmt.Sprintf("connections that role %q may have are taken", d.role)
	role.remedy = []string{fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d;", quoteName(d.role), role.most+needed+20)}
	tight := false
	for _, r := range []room{server, database, role} {
		limited := r.what == server.what || r.most >= 0 && !superuser
		if limited && r.most-r.used < needed {
			tight = true
			d.report("connections", StatusWarn, fmt.Sprintf("%d of %d %s, a relay may take up to %d", r.used, r.most, r.what, needed), r.remedy...)
		}
	}
	if !tight {
		d.report("connections", StatusOK, fmt.Sprintf("%d of %d %s", server.used, server.most, server.what))
	}
	return nil
}

// mayUseReserved says whether the role may use the connections that reserved_connections sets aside.
func (d *examination) mayUseReserved(ctx context.Context) (may bool) {
	if err := d.db.QueryRow(ctx, "SELECT pg_has_role(session_user, 'pg_use_reserved_connections', 'USAGE')").Scan(&may); err != nil {
		return false
	}
	return may
}
