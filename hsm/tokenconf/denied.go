package tokenconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Two modes of access(2) that package syscall lacks.
const (
	mayRead   = 4
	maySearch = 1
)

// Explain adds to an error of the token what SoftHSM does not report: if this user may not read
// a file, SoftHSM says that the token, or the key in an open token, does not exist.
func (s Settings) Explain(err error, open bool) error {
	if err == nil || errors.Is(err, ErrPIN) || errors.Is(err, ErrFull) {
		return err
	}
	if why := s.Denied(open); why != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// Denied returns the first file of SoftHSM that this user may not read, and the fix. open says
// that our token is open: then an unreadable token is another one.
func (s Settings) Denied(open bool) error {
	conf := s.configuration()
	if conf == "" {
		return nil
	}
	if err := unreadable(conf, mayRead); err != nil {
		return err
	}
	folder, err := tokenFolder(conf)
	if err != nil || folder == "" {
		return nil // another fault, reported elsewhere
	}
	if err := unreadable(folder, mayRead|maySearch); err != nil {
		return err
	}
	tokens, _ := os.ReadDir(folder)
	for _, token := range tokens {
		if !token.IsDir() {
			continue
		}
		path := filepath.Join(folder, token.Name())
		if err := unreadable(path, mayRead|maySearch); err != nil && open {
			continue
		} else if err != nil {
			return err
		}
		objects, _ := filepath.Glob(filepath.Join(globbed(path), "*.object"))
		for _, object := range objects {
			if err := unreadable(object, mayRead); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreadable names the first of path and the folders above it that this user may not read, its
// owner, and the command that gives access.
func unreadable(path string, mode uint32) error {
	if above := filepath.Dir(path); above != path {
		if err := unreadable(above, maySearch); err != nil {
			return err
		}
	}
	if err := syscall.Access(path, mode); !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s may not be read", path)
	}
	me, group := userName(os.Geteuid()), groupName(int(owner.Gid))
	where := path
	if strings.HasSuffix(path, ".object") {
		where = filepath.Dir(path) // often the other files are unreadable, too
	}
	fix := fmt.Sprintf("chown -R %s %s", me, where)
	switch {
	case int(owner.Uid) == os.Geteuid():
		fix = fmt.Sprintf("chmod -R u+rwX %s", where)
	case info.Mode()&0o040 != 0 && owner.Gid != 0:
		fix = fmt.Sprintf("usermod -aG %s %s, and start anew", group, me)
	}
	return fmt.Errorf("%s belongs to %s:%s, mode %04o, and user %s may not read it: %s",
		path, userName(int(owner.Uid)), group, info.Mode().Perm(), me, fix)
}

func userName(id int) string {
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return u.Username
	}
	return strconv.Itoa(id)
}

func groupName(id int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(id)); err == nil {
		return g.Name
	}
	return strconv.Itoa(id)
}
