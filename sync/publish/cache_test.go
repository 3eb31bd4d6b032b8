package publish_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

func TestAnswersSayHowLongTheyMayBeKept(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(*publish.SealerConfig) {})
	s.await(t, s.position(t))
	s.archives(t, func(*publish.SnapshotterConfig) {})
	s.snapshot(t, 0)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.site.ClientTLS(s.server.Pin), ForceAttemptHTTP2: true}}
	get := func(method, path string, body io.Reader) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	epoch := "?epoch=" + strings.Split(strings.SplitN(string(s.latest.Newest().Note), "epoch ", 2)[1], "\n")[0]
	newest, err := s.sealer.NewestSnapshot(t.Context(), s.keys.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	files := fmt.Sprintf("/feed/snapshot/%d/%s", newest.Position, feedhttp.Tag(newest.Note))
	for path, want := range map[string]string{
		files + epoch:              "private, max-age=31536000, immutable",
		"/feed/segment/1" + epoch:  "private, max-age=31536000, immutable",
		"/feed/segment/1":          "no-cache",
		"/feed/checkpoint?after=0": "no-cache",
		"/feed/keys":               "no-cache",
		"/feed/snapshot" + epoch:   "no-cache",
		"/feed/segment/2" + epoch:  "no-store",
		"/feed/segment/1?epoch=12": "no-store",
		files + "/0" + epoch:       "private, max-age=31536000, immutable",
	} {
		if got := get("GET", path, nil).Header.Get("Cache-Control"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]int{
		"/feed/segment/01": 404, "/feed/segment/-1": 404, "/feed/segment/1?x=1": 404, files + "/99" + epoch: 404,
		strings.Replace(files, "/"+feedhttp.Tag(newest.Note), "/0123456789abcdef", 1) + "/0" + epoch: 404, // of another manifest
		"/feed/snapshot/1/0" + epoch: 404, "/feed/segment/99999999999999999999": 404, "/feed": 404,
		"/feed/checkpoint?wait=2h": 400, "/feed/checkpoint?after=x": 400, "/feed/segment/+1": 404, "/feed/segment/1?epoch=01": 404,
	} {
		if got := get("GET", path, nil).StatusCode; got != want {
			t.Errorf("%s: status %d, want %d", path, got, want)
		}
	}
	if got := get("POST", "/feed/keys", nil).StatusCode; got != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", got)
	}
	if got := get("GET", "/feed/keys", strings.NewReader("body")).StatusCode; got != http.StatusBadRequest {
		t.Errorf("GET with a body: status %d", got)
	}
	if r := get("HEAD", "/feed/segment/1"+epoch, nil); r.StatusCode != 200 || r.ContentLength < 500 {
		t.Errorf("HEAD: status %d, length %d", r.StatusCode, r.ContentLength)
	}
}

// What never changes may be kept by anybody's cache where the master says so, and
// news and lists by nobody's.
func TestPublicFeedMayBeKeptByCaches(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(*publish.SealerConfig) {})
	s.await(t, s.position(t))
	s.archives(t, func(*publish.SnapshotterConfig) {})
	newest, err := s.sealer.NewestSnapshot(t.Context(), s.snapshot(t, 0).Epoch)
	if err != nil {
		t.Fatal(err)
	}
	files := fmt.Sprintf("/feed/snapshot/%d/%s", newest.Position, feedhttp.Tag(newest.Note))
	open := httptest.NewServer(feedhttp.NewServer(feedhttp.ServerConfig{Store: s.sealer.DB, Latest: s.latest, Public: true, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(open.Close)
	epoch := "?epoch=" + strconv.FormatInt(s.keys.Epoch, 10)
	for path, want := range map[string]string{
		"/feed/segment/1" + epoch: "public, max-age=31536000, immutable",
		files + "/0" + epoch:      "public, max-age=31536000, immutable",
		"/feed/segment/1":         "no-cache",
		"/feed/keys":              "no-cache",
		"/feed/checkpoint":        "no-cache",
		"/feed/snapshot" + epoch:  "no-cache",
		"/feed/news":              "no-store",
	} {
		response, err := http.Get(open.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get("Cache-Control"); got != want || response.StatusCode != http.StatusOK {
			t.Errorf("%s: %q with status %d, want %q", path, got, response.StatusCode, want)
		}
	}
}
