package pgserver

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// keeperScript waits for the end of its standard input, which comes when the
// starter ends, however it ends; then it stops the server of folder $1, which
// it knows by the working directory, and removes the folder if $2 says so.
const keeperScript = `trap '' INT TERM HUP
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
tries=0
while [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; do
	tries=$((tries + 1))
	if [ $tries -gt 100 ]; then kill -KILL "$pid"; else kill -QUIT "$pid"; fi
	sleep 0.1
done
[ "$2" = remove ] && rm -rf -- "$1"
exit 0`

// startKeeper starts the process that outlives us to clean up. The returned
// pipe is closed by the kernel when we end; nobody else inherits it.
func startKeeper(dir string, remove bool) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the keeper: %w", err)
	}
	defer r.Close()
	what := "keep"
	if remove {
		what = "remove"
	}
	cmd := exec.Command("/bin/sh", "-c", keeperScript, "pgserver-keeper", dir, what)
	cmd.Dir, cmd.Env, cmd.Stdin = "/", environment(), r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's ^C must not reach it
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("starting the keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // its exit code says nothing; we only reap it
	return w, nil
}

// releaseKeeper lets the keeper do its work and go.
func (s *Server) releaseKeeper() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper != nil {
		s.keeper.Close()
		s.keeper = nil
	}
}
