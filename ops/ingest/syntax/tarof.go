package syntax

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFiles bounds the names of files held in memory: about 100 MB.
const maxFiles = 500_000

// directory reads a directory and all below it as a tar of the files, sorted by name, without
// owners and times, so that the same files always give the same octets and the same sum. A file
// is kept in memory whole while it is read: one over 16 MiB is not a certificate.
type directory struct {
	root  *os.Root
	paths []string // paths still to be read
	rest  bytes.Buffer
	out   *tar.Writer
}

const maxMember = 16 << 20

// TarOf reads a directory as a tar.
func TarOf(dir string) (io.Reader, error) {
	t := &directory{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if t.paths = append(t.paths, path[len(filepath.Clean(dir))+1:]); len(t.paths) > maxFiles {
			return fmt.Errorf("over %d files: want a tar of them", maxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if t.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	t.out = tar.NewWriter(&t.rest)
	return t, nil
}

// Read closes the directory at the end.
func (t *directory) Read(p []byte) (int, error) {
	for t.rest.Len() == 0 {
		if t.out == nil {
			return 0, io.EOF
		}
		if len(t.paths) == 0 {
			if err := t.out.Close(); err != nil {
				return 0, err
			}
			t.out = nil
			if err := t.root.Close(); err != nil {
				return 0, err
			}
			continue
		}
		path := t.paths[0]
		t.paths = t.paths[1:]
		if err := t.add(path); err != nil {
			return 0, err
		}
	}
	return t.rest.Read(p)
}

func (t *directory) add(path string) error {
	info, err := t.root.Lstat(path)
	if err != nil {
		return err
	}
	head := &tar.Header{Name: filepath.ToSlash(path), Typeflag: tar.TypeReg, Mode: 0o600, Size: info.Size()}
	if !info.Mode().IsRegular() {
		head.Typeflag, head.Size, head.Linkname = tar.TypeSymlink, 0, "elsewhere"
		return t.out.WriteHeader(head)
	}
	if info.Size() > maxMember {
		return fmt.Errorf("%s: has over %d MiB: no certificate is that long", path, maxMember>>20)
	}
	text, err := t.root.ReadFile(path)
	if err != nil {
		return err
	}
	head.Size = int64(len(text))
	if err := t.out.WriteHeader(head); err != nil {
		return err
	}
	if _, err = t.out.Write(text); err != nil {
		return err
	}
	return t.out.Flush()
}
