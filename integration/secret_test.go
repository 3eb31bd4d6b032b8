package integration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"ocspfleet/integration/testkit/devfleet"
)

// pinNowhere looks for the PIN in what the daemons show of themselves and in
// what every verb at the site prints.
func (s *tokenSite) pinNowhere() {
	pin := strings.TrimSpace(contents(s.t, filepath.Join(filepath.Dir(s.site.Token.SoftHSM2Conf), "pin")))
	if len(pin) < 8 {
		s.t.Fatalf("the PIN is %d characters long: it would be found by chance", len(pin))
	}
	nowhere := func(where, text string) {
		s.t.Helper()
		if text == "" {
			s.t.Errorf("%s: nothing was looked at", where)
		}
		if strings.Contains(text, pin) {
			s.t.Errorf("the PIN is in %s", where)
		}
	}
	now, err := devfleet.Attach(s.Dir())
	if err != nil {
		s.t.Fatal(err)
	}
	for name, pid := range map[string]int{"ocspd": now.Sites[0].PIDs.Ocspd, "ocspsyncd": now.Sites[0].PIDs.Ocspsyncd, "the master's ocspsyncd": now.Master.PIDs.Ocspsyncd} {
		for _, file := range []string{"cmdline", "environ"} {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil {
				s.t.Fatal(err)
			}
			nowhere(name+"'s "+file, string(raw))
		}
	}
	limits := contents(s.t, fmt.Sprintf("/proc/%d/limits", now.Sites[0].PIDs.Ocspd))
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).MatchString(limits) {
		s.t.Errorf("ocspd may leave a core, and the PIN in it:\n%s", limits)
	}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/loglevel"} {
		response, err := s.client.Get(s.site.AdminURL + path)
		if err != nil {
			s.t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		response.Body.Close()
		nowhere(path, string(body))
	}
	config := filepath.Join(s.Path(s.site.ConfigDir), "ocspctl.yaml")
	daemon := filepath.Join(s.Path(s.site.ConfigDir), "ocspd.yaml")
	for _, verb := range [][]string{
		{"key", "list"}, {"key", "csr", "site-a", "--label", "ocsp-site-a"}, {"key", "generate", "--kind", "p256", "--label", "ocsp-site-a"}, // the label is taken: an error
		{"doctor", "--ocspd-config", daemon}, {"config", "check"}, {"config", "check", "--daemon", "ocspd", daemon}, {"db", "status"}, {"version"},
	} {
		for _, form := range []string{"json", "table"} {
			out, _ := says(s.t, s.Path(s.Ocspctl), append([]string{"--config", config, "--output", form}, verb...)...)
			nowhere("ocspctl "+strings.Join(verb, " ")+" --output "+form, out)
		}
	}
	logs := 0
	err = filepath.WalkDir(s.Dir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Base(path) == "pin" || strings.Contains(path, "/tokens/") || !entry.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.HasSuffix(path, ".log") && len(raw) > 0 {
			logs++
		}
		if strings.Contains(string(raw), pin) {
			s.t.Errorf("the PIN is in %s", path)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if logs < 3 {
		s.t.Errorf("only %d logs were looked through", logs)
	}
}
