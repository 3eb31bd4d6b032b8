package feedhttp

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"ocspfleet/db"
	"ocspfleet/sync/feed"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// News is one answer to a follower of the feed: a checkpoint, and, if they are few, the
// segments from the follower's checkpoint up to it. Each is verified like the file of the same
// name.
type News struct {
	Note     []byte        // the checkpoint, signed
	Segments []feed.Sealed // in order, without a gap; none if they must be fetched
}

// Bounds of news.
const (
	// MaxNews bounds news, both unpacked and on the wire.
	MaxNews = 1 << 20
	// newsSegments is how many segments news may hold; a follower further behind fetches them
	// one by one.
	newsSegments = 32
	// newsOctets is how many octets of segments news hold at most.
	newsOctets = 512 << 10
)

// The first octet of news says how the rest is compressed.
const (
	newsPlain = 0 // with deflate
	newsSeen  = 1 // with deflate, primed with the follower's checkpoint
)

// Tag names a checkpoint in a request for news: 16 hex digits of its SHA-256.
func Tag(signed []byte) string { return strings.Trim(etag(signed), `"`) }

// dictionary is the deflate dictionary for news: the parts of this checkpoint that the next one
// repeats, the most likely last.
func dictionary(signed []byte) []byte {
	text, _, _ := bytes.Cut(signed, []byte("\n\n"))
	text = append(bytes.Clone(text), '\n')
	d := make([]byte, 0, 80+len(signed))
	if c, err := feed.ParseCheckpoint(string(text)); err == nil {
		d = append(d, c.Segment[:]...) // the next segment contains it, as octets
	}
	d = append(d, "previous "+feed.Base64(feed.HashOf(text))+"\n"...)
	return append(d, signed...)
}

// deflaters are reused: one takes 1 MB.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(io.Discard, flate.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &deflater{w: w}
}}

type deflater struct {
	w   *flate.Writer
	out io.Writer
}

func (d *deflater) Write(b []byte) (int, error) { return d.out.Write(b) }

// deflate compresses b. It compresses the dictionary first and discards that output: what
// follows refers to it, and no new writer is needed each time.
func deflate(b, dictionary []byte) ([]byte, error) {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	var out bytes.Buffer
	d.out = io.Discard
	d.w.Reset(d)
	_, err := d.w.Write(dictionary)
	if err == nil && len(dictionary) > 0 {
		err = d.w.Flush()
	}
	d.out = &out
	if err == nil {
		_, err = d.w.Write(b)
	}
	if err = errors.Join(err, d.w.Close()); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	return out.Bytes(), nil
}

// pack returns the answer for a follower with the checkpoint seen; nil: that one is not known
// here.
func (n *News) pack(seen []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(n.Note) })
		for _, s := range n.Segments {
			s.Add(b)
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing news: %w", err)
	}
	form, primer := byte(newsPlain), []byte(nil)
	if seen != nil {
		form, primer = newsSeen, dictionary(seen)
	}
	body, err := deflate(der, primer)
	if err != nil {
		return nil, fmt.Errorf("writing news: %w", err)
	}
	return append([]byte{form}, body...), nil
}

// openNews splits an answer, without verifying it.
func openNews(body, seen []byte) (*News, error) {
	var primer []byte
	switch {
	case len(body) > 0 && body[0] == newsPlain:
	case len(body) > 0 && body[0] == newsSeen && seen != nil:
		primer = dictionary(seen)
	default:
		return nil, fmt.Errorf("%w: news of an unknown form", ErrSource)
	}
	der, err := io.ReadAll(io.LimitReader(flate.NewReaderDict(bytes.NewReader(body[1:]), primer), MaxNews+1))
	if err != nil {
		return nil, fmt.Errorf("%w: decompressing news: %w", ErrSource, err)
	}
	if len(der) > MaxNews {
		return nil, fmt.Errorf("%w: news of more than %d octets", ErrEndless, MaxNews)
	}
	in := cryptobyte.String(der)
	var outer, text cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&text, asn1.UTF8String) || len(text) > feed.MaxNote {
		return nil, fmt.Errorf("%w: reading news: %w", ErrSource, feed.ErrForm)
	}
	n := &News{Note: text}
	for !outer.Empty() {
		var one cryptobyte.String
		if len(n.Segments) == newsSegments || !outer.ReadASN1Element(&one, asn1.SEQUENCE) {
			return nil, fmt.Errorf("%w: reading news: %w", ErrSource, feed.ErrForm)
		}
		sealed, err := feed.ParseSealed(one)
		if err != nil {
			return nil, err
		}
		n.Segments = append(n.Segments, sealed)
	}
	return n, nil
}

// news is the long poll of a follower: it waits for a position beyond after=P, or for a
// checkpoint that was published here after the one with seen=TAG; if that one is unknown, for
// one newer than at=T. A checkpoint under a newer key set than keys=N is always news: that set
// may make the follower's checkpoint invalid.
func (s *Server) news(w http.ResponseWriter, r *http.Request) {
	after, wait, ok := s.poll(w, r)
	if !ok {
		return
	}
	tag := r.URL.Query().Get("seen")
	seen, known := s.cfg.Latest.recall(tag)
	at, err := strconv.ParseInt(r.URL.Query().Get("at"), 10, 64)
	if err != nil {
		at = math.MaxInt64
	}
	keys, err := strconv.ParseInt(r.URL.Query().Get("keys"), 10, 64)
	if err != nil {
		keys = math.MaxInt64
	}
	news := func(n db.FeedNote) bool {
		switch {
		case n.Note != nil && underKeys(n) > keys:
			return true
		case tag == "":
			return n.Position > after
		case known:
			return n.Epoch > seen.Epoch || n.Epoch == seen.Epoch && newer(n, seen)
		default: // this server is behind, or far ahead, or skipped the client's checkpoint
			return n.Position > after || n.Position == after && n.AsOf.UnixMicro() > at
		}
	}
	note := s.await(r, wait, news)
	if !s.admits(r) { // the list may have changed meanwhile
		s.refuse(w, r)
		return
	}
	h := w.Header()
	h["Date"], h["Content-Type"] = nil, nil // headers that cost more than they are worth
	if s.cfg.Access == nil || s.cfg.Public {
		h.Set("Cache-Control", "no-store") // otherwise there is no cache in between
	}
	switch {
	case note.Note == nil:
		s.answer(w, r, file{}, db.ErrNotFound)
		return
	case !news(note) && tag != "":
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, err := s.packed(r.Context(), seen, note)
	if err != nil {
		s.answer(w, r, file{}, err)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that leaves early asks again
	}
}

// underKeys returns the number of the key set under which a checkpoint was signed.
func underKeys(n db.FeedNote) int64 {
	c, err := feed.ReadCheckpoint(n.Note)
	if err != nil {
		return 0
	}
	return c.KeySet
}

// packed returns the answer for followers at one checkpoint that need another. All followers
// ask for the same at the same moment, so the answer is made once.
func (s *Server) packed(ctx context.Context, seen, note db.FeedNote) ([]byte, error) {
	key := etag(seen.Note) + etag(note.Note)
	if kept := s.kept.Load(); kept != nil && kept.key == key {
		return kept.body, nil
	}
	body, err, _ := s.packing.Do(key, func() (any, error) {
		// The first client may leave; the others still wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		n, whole := News{Note: note.Note}, true
		if seen.Note != nil && seen.Epoch == note.Epoch {
			n.Segments = s.between(ctx, seen, note)
			whole = int64(len(n.Segments)) == note.Number-seen.Number
		}
		body, err := n.pack(seen.Note)
		if err == nil && whole {
			s.kept.Store(&keptNews{key, body})
		}
		return body, err
	})
	if err != nil {
		return nil, err
	}
	return body.([]byte), nil
}

// keptNews is the news made last.
type keptNews struct {
	key  string // the tags of the follower's checkpoint and of the newest
	body []byte
}

// between reads the segments after one checkpoint up to another, or none if they are too many
// or missing here: then the follower fetches them one by one.
func (s *Server) between(ctx context.Context, from, to db.FeedNote) []feed.Sealed {
	if to.Number-from.Number > newsSegments {
		return nil
	}
	var all []feed.Sealed
	octets := 0
	for number := from.Number + 1; number <= to.Number; number++ {
		sealed, posted := s.cfg.Latest.segment(to.Epoch, number)
		if !posted {
			var err error
			if sealed, err = s.sealed(ctx, to.Epoch, number); err != nil {
				return nil
			}
		}
		if octets += len(sealed.Body) + len(sealed.Note); octets > newsOctets {
			return nil
		}
		all = append(all, sealed)
	}
	return all
}
