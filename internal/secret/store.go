package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Prefix begins the names of the variables that every subscription may refer to.
const Prefix = "POSTRIDER_SECRET_"

// Store reads what the options of subscriptions refer to, and remembers it, so that no text shows it later. Who may write
// subscriptions is not to read everything else that this process can: not its own variables, nor files of the machine. Its methods
// may be called by several goroutines at once.
type Store struct {
	Redactor
	// Dir is the directory that all files have to be in; symbolic links do not lead out of it. Empty: no file can be used.
	Dir string
	// Variables may be used as well as those that begin with SecretPrefix.
	Variables []string
	// Except holds references (env:NAME, file:/path) that are for others.
	Except []string

	open bool // everything may be used
}

// Own returns what one sink uses: with the same rules, and a memory of its own, of which s knows all. For nil there are no rules, as
// it should be only where a program makes the options by itself.
func (s *Store) Own() *Store {
	if s == nil {
		return &Store{open: true}
	}
	return &Store{Redactor: Redactor{parent: &s.Redactor}, Dir: s.Dir, Variables: s.Variables, Except: s.Except, open: s.open}
}

// HiddenError is what is wrong with a reference. Its text tells nobody whether there is such a file or variable, or what is in it.
type HiddenError struct {
	Setting, Ref string
	Err          error
}

// Error tells as much as everybody may know who reads what subscriptions run into.
func (h *HiddenError) Error() string { return h.Setting + ": " + h.Ref + " cannot be used" }

// Detail is for the log of this process. It shows no secret either.
func (h *HiddenError) Detail() string { return h.Setting + ": " + h.Err.Error() }

// Unwrap returns the reason.
func (h *HiddenError) Unwrap() error { return h.Err }

// Hide makes an error of what came of a setting's reference.
func (s *Store) Hide(setting, ref string, err error) error {
	if s.open {
		return fmt.Errorf("%s: %w", setting, err)
	}
	return &HiddenError{setting, ref, err}
}

// Variable returns an environment variable. Where there is none the error wraps fs.ErrNotExist.
func (s *Store) Variable(name string) (string, error) {
	if !s.open && !strings.HasPrefix(name, Prefix) && !slices.Contains(s.Variables, name) {
		return "", fmt.Errorf("the variable %s is not for subscriptions: its name has to begin with %s, or be in POSTRIDER_SECRETS_ALLOW", name, Prefix)
	}
	if slices.Contains(s.Except, "env:"+name) {
		return "", fmt.Errorf("the variable %s is this relay's own", name)
	}
	text, ok := os.LookupEnv(name)
	if !ok {
		return "", fmt.Errorf("the variable %s is not set: %w", name, fs.ErrNotExist)
	}
	return text, nil
}

// File returns the text of a regular file of at most so many bytes.
func (s *Store) File(path string, most int64) ([]byte, error) {
	// Pipes and devices yield their text once, or for ever: they are not opened.
	info, open, err := s.find(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	for _, ref := range s.Except {
		at, ok := strings.CutPrefix(ref, "file:")
		if other, err := os.Stat(strings.TrimPrefix(at, "//")); ok && err == nil && os.SameFile(info, other) {
			return nil, fmt.Errorf("%s is this relay's own", path)
		}
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return text, err
}

// find looks at a file, if it may be used, and returns what opens it.
func (s *Store) find(path string) (fs.FileInfo, func() (*os.File, error), error) {
	if s.open {
		info, err := os.Stat(path)
		return info, func() (*os.File, error) { return os.Open(path) }, err
	}
	if s.Dir == "" {
		return nil, nil, errors.New("POSTRIDER_SECRETS_DIR is not set: it names the directory of the files that subscriptions may use")
	}
	inside, err := filepath.Rel(s.Dir, path)
	if err != nil || !filepath.IsLocal(inside) {
		return nil, nil, fmt.Errorf("%s is not in POSTRIDER_SECRETS_DIR (%s)", path, s.Dir)
	}
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("POSTRIDER_SECRETS_DIR: %w", err)
	}
	info, err := root.Stat(inside)
	if err != nil {
		root.Close()
		return nil, nil, fmt.Errorf("in POSTRIDER_SECRETS_DIR (%s): %w", s.Dir, err)
	}
	return info, func() (*os.File, error) {
		defer root.Close()
		return root.Open(inside)
	}, nil
}
