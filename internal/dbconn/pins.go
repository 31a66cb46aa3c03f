package dbconn

import (
	"fmt"
	"strings"
)

// pins are the settings that the product depends on, with the values that it depends on. A setting that the server does not know is
// left out. (client_encoding depends on the database: see encoding.)
var pins = [...][2]string{
	// Names and operators are PostgreSQL's own, whoever may create in public.
	{"search_path", "pg_catalog, pg_temp"},
	// A row that may not be seen is an error that names the table: it must not pass for one that is not there.
	{"row_security", "off"},
	{"restrict_nonsystem_relation_kind", ""},

	// How values are written and read.
	{"DateStyle", dateStyle},
	{"IntervalStyle", "postgres"},
	{"TimeZone", timeZone},
	{"timezone_abbreviations", "Default"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"xmlbinary", "base64"},
	{"xmloption", "content"},
	{"quote_all_identifiers", "off"},

	// What statements mean.
	{"standard_conforming_strings", "on"},
	{"backslash_quote", "safe_encoding"},
	{"escape_string_warning", "on"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"plpgsql.extra_errors", "none"},
	{"plpgsql.extra_warnings", "none"},
	{"check_function_bodies", "on"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},

	// Where a migration puts things.
	{"default_tablespace", ""},
	{"temp_tablespaces", ""},
	{"default_table_access_method", "heap"},

	// How long things may take: who runs a statement bounds it.
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"exit_on_error", "off"},
	// PostgreSQL 18 tells by a mere warning that a publication is missing.
	{"client_min_messages", "notice"},

	// Plans that read an outbox by its indexes. Compilation never pays: the views over all segments only look expensive.
	{"jit", "off"},
	{"plan_cache_mode", "auto"},
	{"force_parallel_mode", "off"}, // until PostgreSQL 15
	{"debug_parallel_query", "off"},
	{"enable_seqscan", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"enable_bitmapscan", "on"},
	{"enable_sort", "on"},
	{"enable_nestloop", "on"},
	{"enable_hashjoin", "on"},
	{"enable_mergejoin", "on"},
	{"enable_hashagg", "on"},
	{"enable_material", "on"},
	{"enable_partition_pruning", "on"},
}

const (
	dateStyle = "ISO, MDY"
	timeZone  = "UTC"
)

// setPins is the statement that sets the pins, for the transaction or the session, if the condition holds. It depends on none of
// them: every name is qualified.
func setPins(local bool, condition string) string {
	values := make([]string, len(pins))
	for i, pin := range pins {
		values[i] = fmt.Sprintf("('%s', '%s')", pin[0], pin[1])
	}
	return fmt.Sprintf("SELECT pg_catalog.count(pg_catalog.set_config(s.name, s.value, %t)) FROM (VALUES %s) AS s (name, value)"+
		" WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL AND %s", local, strings.Join(values, ", "), condition)
}

// unlimited comes before the pins, which take a moment, in the same request.
const unlimited = "SET LOCAL statement_timeout = 0"

// Pins are the statements that pin a transaction: its first after BEGIN.
var Pins = []string{unlimited, setPins(true, "true")}
