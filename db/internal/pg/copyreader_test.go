package pg

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"ocspfleet/db"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func copyStream(rows [][2][]byte) []byte {
	stream := append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...)
	for _, fields := range rows {
		stream = binary.BigEndian.AppendUint16(stream, 2)
		for _, f := range fields {
			stream = db.AppendLP(stream, f)
		}
	}
	return append(stream, 0xff, 0xff)
}

func TestCopyIsReadHoweverItIsCut(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		field := rapid.SliceOfN(rapid.Byte(), 0, 40)
		var rows [][2][]byte
		for range rapid.IntRange(0, 20).Draw(r, "rows") {
			rows = append(rows, [2][]byte{field.Draw(r, "a"), field.Draw(r, "b")})
		}
		var want, got []string
		for _, f := range rows {
			want = append(want, fmt.Sprintf("%x %x", f[0], f[1]))
		}
		w := &CopyReader{Row: func(f [2][]byte) error {
			got = append(got, fmt.Sprintf("%x %x", f[0], f[1]))
			return nil
		}}
		stream := copyStream(rows)
		for len(stream) > 0 {
			if w.End() == nil {
				r.Fatal("whole before its end")
			}
			n := rapid.IntRange(1, min(len(stream), 60)).Draw(r, "cut")
			part := append([]byte(nil), stream[:n]...)
			if _, err := w.Write(part); err != nil {
				r.Fatal(err)
			}
			clear(part) // the driver uses its buffer again
			stream = stream[n:]
		}
		if err := w.End(); err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatal(diff)
		}
	})
}

func TestCopyThatIsNoneIsRefused(t *testing.T) {
	good := copyStream([][2][]byte{{{1}, {2}}})
	for name, stream := range map[string]string{
		"header":      strings.Replace(string(good), "PGCOPY", "PGCOPX", 1),
		"fields":      strings.Replace(string(good), "\x00\x02\x00\x00\x00\x01", "\x00\x03\x00\x00\x00\x01", 1),
		"null":        strings.Replace(string(good), "\x00\x00\x00\x01\x01", "\xff\xff\xff\xff\x01", 1),
		"huge":        strings.Replace(string(good), "\x00\x00\x00\x01\x01", "\x7f\xff\xff\xff\x01", 1),
		"behind":      string(good) + "\x00\x02",
		"cut short":   string(good[:len(good)-3]),
		"no trailer":  string(good[:len(good)-2]),
		"nothing":     "",
		"header only": string(good[:19]),
	} {
		w := &CopyReader{Row: func([2][]byte) error { return nil }}
		_, err := w.Write([]byte(stream))
		if err == nil {
			err = w.End()
		}
		if err == nil {
			t.Errorf("%s: read as if it were whole", name)
		}
	}
}
