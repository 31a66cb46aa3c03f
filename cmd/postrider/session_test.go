package main

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// connectTo opens a connection as an application or a person does, who pin nothing.
func connectTo(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
