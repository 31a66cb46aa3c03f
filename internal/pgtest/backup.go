package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/account"
)

// backup is an online backup of a running server, copied file by file: small
// PostgreSQL builds come without pg_basebackup. See "Making a Non-Exclusive Low-Level
// Backup" in the PostgreSQL manual, chapter 26.
type backup struct {
	conn    *pgx.Conn
	from    string // the data directory
	version int    // server_version_num
}

// pgControl is copied last: it tells how far the other files may have come.
const pgControl = "global/pg_control"

// notCopied are directories of which only the name counts, and files that belong
// to the running server. The WAL comes by streaming.
var (
	emptyDirs = []string{"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "pg_wal"}
	notCopied = []string{"postmaster.pid", "postmaster.opts", pgControl}
)

// beginBackup makes a checkpoint and keeps all WAL from there on, with a temporary
// slot that goes with the connection.
func beginBackup(ctx context.Context, s *Server) (*backup, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return nil, err
	}
	b := &backup{conn: conn, from: dataDir(s.dir)}
	if err := b.begin(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *backup) begin(ctx context.Context) error {
	err := b.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&b.version)
	if err != nil {
		return err
	}
	// The slot's WAL begins at the last checkpoint or before, the backup's at a new one.
	if _, err := b.conn.Exec(ctx, `SELECT pg_create_physical_replication_slot($1, true, true)`, uniqueName("standby")); err != nil {
		return err
	}
	start := `SELECT pg_backup_start('pgtest', fast => true)`
	if b.version < 150000 {
		start = `SELECT pg_start_backup('pgtest', fast => true, exclusive => false)`
	}
	_, err = b.conn.Exec(ctx, start)
	return err
}

// copyTo fills the data directory of to, which will start as a standby.
func (b *backup) copyTo(ctx context.Context, to *Server) error {
	dir := dataDir(to.dir)
	if err := b.copyFiles(ctx, dir, to.as); err != nil {
		return fmt.Errorf("copy the data directory: %w", err)
	}
	stop := `SELECT labelfile, spcmapfile FROM pg_backup_stop(wait_for_archive => false)`
	if b.version < 150000 {
		stop = `SELECT labelfile, spcmapfile FROM pg_stop_backup(exclusive => false, wait_for_archive => false)`
	}
	var label, tablespaces string
	if err := b.conn.QueryRow(ctx, stop).Scan(&label, &tablespaces); err != nil {
		return err
	}
	if tablespaces != "" {
		return fmt.Errorf("copy the data directory: tablespaces outside of it are not supported: %s", tablespaces)
	}
	// What ALTER SYSTEM set is the primary's own.
	for name, text := range map[string]string{"backup_label": label, "standby.signal": "", "postgresql.auto.conf": ""} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), to.as.Chown(path)); err != nil {
			return err
		}
	}
	return nil
}

// copyFiles copies what the server may go on changing meanwhile: replaying the WAL
// from the checkpoint on mends it.
func (b *backup) copyFiles(ctx context.Context, dir string, as account.Account) error {
	err := filepath.WalkDir(b.from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // dropped meanwhile
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		name, err := filepath.Rel(b.from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		switch {
		case entry.IsDir():
			err = errors.Join(os.Mkdir(to, 0o700), as.Chown(to))
			if err == nil && slices.Contains(emptyDirs, name) {
				err = fs.SkipDir // made, and left empty
			}
			return err
		case entry.Type().IsRegular() && !slices.Contains(notCopied, name):
			return copyFile(path, to, as)
		}
		return nil
	})
	return errors.Join(err, copyFile(filepath.Join(b.from, pgControl), filepath.Join(dir, pgControl), as))
}

// copyFile copies a file, if it is still there.
func copyFile(from, to string, as account.Account) (err error) {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), as.Chown(to))
}

// close ends the backup and lets its WAL go.
func (b *backup) close() error {
	ctx, cancel := cleanupContext()
	defer cancel()
	return b.conn.Close(ctx)
}
