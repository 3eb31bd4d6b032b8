package pgserver

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Standby starts a server that streams from s, made by pg_basebackup: with hot_standby,
// so that it answers queries, and promoted by pg_promote(). Settings are those of s, with
// those given.
func (s *Server) Standby(ctx context.Context, settings map[string]string) (*Server, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	owner, err := runAs()
	if err != nil {
		return nil, err
	}
	standby := &Server{password: s.password, settings: maps.Clone(s.settings)}
	maps.Copy(standby.settings, settings)
	if err := standby.claim(Config{}); err != nil {
		return nil, err
	}
	fail := func(err error) (*Server, error) {
		standby.releaseKeeper()
		_ = os.RemoveAll(standby.Dir) // the first fault tells
		return nil, fmt.Errorf("starting a standby in %s: %w", standby.Dir, err)
	}
	for _, dir := range []string{standby.dataDir(), filepath.Dir(standby.LogFile())} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fail(err)
		}
	}
	if owner != nil {
		if err := os.Chown(standby.dataDir(), int(owner.Uid), int(owner.Gid)); err != nil {
			return fail(err)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "pg_basebackup"), "-D", standby.dataDir(), "-d", s.DSN("postgres"), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = standby.dataDir(), environment(), &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("running pg_basebackup: %w: %s", err, tail(out, 10)))
	}
	if standby.keeper, err = startKeeper(standby.Dir, standby.temporary); err != nil {
		return fail(err)
	}
	if err = standby.choosePort(0); err == nil {
		err = standby.launch(ctx, bin)
	}
	if err != nil {
		return fail(err)
	}
	return standby, nil
}
