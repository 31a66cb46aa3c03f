package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
)

// file is one of an archive.
type file struct {
	name string
	mode int64
	text []byte
}

// pack writes an archive in which nothing tells who made it and when.
func (r *release) pack(name string, files []file) error {
	var text bytes.Buffer
	zip, err := gzip.NewWriterLevel(&text, gzip.BestCompression)
	if err != nil {
		return err
	}
	list := tar.NewWriter(zip)
	for _, f := range files {
		if err := list.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: r.at, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if _, err := list.Write(f.text); err != nil {
			return err
		}
	}
	if err := list.Close(); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, name), text.Bytes(), 0o644)
}
