package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestPagesOfCommands(t *testing.T) {
	root := &cobra.Command{Use: "shop", Short: "keeps a shop", Long: "It keeps.\n\n.dots and 'quotes' at a line's begin are text."}
	sell := &cobra.Command{Use: "sell THING", Short: "sell", Example: "  shop sell tea --apply", Run: func(*cobra.Command, []string) {}}
	sell.Flags().String("price", "1", "the `AMOUNT`")
	root.AddCommand(sell, &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}})
	dir := filepath.Join(t.TempDir(), "man1")
	if n, err := Commands(root, dir); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	for file, wants := range map[string][]string{
		"shop.1":      {`.TH "SHOP" 1`, "\\&.dots", `\fBshop\-sell\fR(1)`},
		"shop-sell.1": {"shop sell THING", `\fB\-\-price\fR \fIAMOUNT\fR`, "(default 1)", `shop sell tea \-\-apply`},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		for _, want := range wants {
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s (%v) has no %q:\n%s", file, err, want, text)
			}
		}
	}
	if _, err := Commands(root, filepath.Join(dir, "shop.1", "x")); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// The page of each daemon names every key of its configuration and says what it is.
func TestPagesOfDaemons(t *testing.T) {
	configs := filepath.Join("..", "..", "..", "ops", "config")
	for daemon, wants := range map[string][]string{
		"ocspd":     {`.TH "OCSPD" 8`, `\fBlisten\fR`, `\fBdatabase.password_file\fR`, `\fBissuers[].fingerprint\fR`, "(default /etc/ocspfleet/ocspd.yaml)", `\-\-check\-config`, "Default 5s"},
		"ocspsyncd": {`.TH "OCSPSYNCD" 8`, `\fBheartbeat\fR`, `\fBmaster.dsn\fR`, "SIGTERM", `\fBfeed.root\fR`, `\fBfeed.sources[].pin\fR`, `\fBfeed.ask_socket\fR`},
	} {
		name, page, err := Daemon(filepath.Join("..", "..", daemon), configs)
		if err != nil || name != daemon {
			t.Fatal(name, err)
		}
		for _, want := range wants {
			if !strings.Contains(string(page), want) {
				t.Errorf("%s has no %q", daemon, want)
			}
		}
		for entry := range strings.SplitSeq(string(page), ".TP\n") {
			if lines := strings.SplitN(entry, "\n", 3); len(lines) < 2 || lines[1] == "" {
				t.Errorf("%s: an entry without a text: %q", daemon, entry)
			}
		}
	}
	page, err := File(configs, "ocspctl.yaml", "ocspctl")
	for _, want := range []string{`.TH "OCSPCTL.YAML" 5`, `\fBissuers.NAME.crl_url\fR`, `\fBissuers.NAME.token.pin_file\fR`, `\fBdns.ttl\fR`, `\fBfeed.root\fR`, "/etc/ocspfleet/ocspctl.yaml"} {
		if err != nil || !strings.Contains(string(page), want) {
			t.Errorf("ocspctl.yaml (%v) has no %q", err, want)
		}
	}
	if _, _, err := Daemon(t.TempDir(), configs); err == nil || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("no sources: %v", err)
	}
}
