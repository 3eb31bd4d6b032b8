package zone

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fake is a server that does what no real one does. It answers reads with no record,
// and updates with what answer returns, message after message.
type fake struct {
	address string
	key     Key
	answer  func(network string, question *dns.Msg, well []byte) [][]byte
}

// startFake listens at TCP alone, or at UDP, too.
func startFake(t *testing.T, udp bool, answer func(network string, question *dns.Msg, well []byte) [][]byte) *Zone {
	t.Helper()
	f := &fake{key: Key{Name: "ocspctl.", Secret: []byte("0123456789abcdef0123456789abcdef")}, answer: answer}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = tcp.Addr().String()
	servers := []*dns.Server{{Listener: tcp}}
	if udp {
		packets, err := net.ListenPacket("udp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, &dns.Server{PacketConn: packets})
	}
	for _, s := range servers {
		s.TsigSecret = map[string]string{f.key.Name: f.key.base64()}
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		s.Handler = dns.HandlerFunc(f.serve)
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }() // it ends with the test
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return open(t, Config{Zone: "example.org", Server: f.address, Names: []string{first}, Key: f.key, Timeout: 10 * time.Second})
}

func (f *fake) serve(w dns.ResponseWriter, question *dns.Msg) {
	m := new(dns.Msg).SetReply(question)
	if question.Opcode == dns.OpcodeQuery {
		m.Authoritative = true
		_ = w.WriteMsg(m) // whoever asks will notice
		return
	}
	for _, raw := range f.answer(w.RemoteAddr().Network(), question, f.sign(question, m, f.key)) {
		_, _ = w.Write(raw)
	}
}

// sign packs an answer with the key's signature.
func (f *fake) sign(question, m *dns.Msg, key Key) []byte {
	m.SetTsig(key.Name, key.wire(), fudge, time.Now().Unix())
	raw, _, err := dns.TsigGenerate(m, key.base64(), question.IsTsig().MAC, false)
	if err != nil {
		panic(err)
	}
	return raw
}

func pack(question *dns.Msg, code int) []byte {
	raw, err := new(dns.Msg).SetRcode(question, code).Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

// What comes back is believed only with the right signature, and whatever else comes
// ends in an error that says what it was.
func TestAnswersThatAreNotBelieved(t *testing.T) {
	once := func(change func(question *dns.Msg, well []byte) []byte) func(string, *dns.Msg, []byte) [][]byte {
		return func(_ string, question *dns.Msg, well []byte) [][]byte {
			return [][]byte{change(question, append([]byte{}, well...))}
		}
	}
	signed := func(change func(m *dns.Msg, key *Key, mac *string)) func(string, *dns.Msg, []byte) [][]byte {
		return once(func(question *dns.Msg, _ []byte) []byte {
			m, key, mac := new(dns.Msg).SetReply(question), Key{Name: "ocspctl.", Secret: []byte("0123456789abcdef0123456789abcdef")}, question.IsTsig().MAC
			m.SetTsig(key.Name, key.wire(), fudge, time.Now().Unix())
			change(m, &key, &mac)
			raw, _, err := dns.TsigGenerate(m, key.base64(), mac, false)
			if err != nil {
				panic(err)
			}
			return raw
		})
	}
	for _, c := range []struct {
		name, want string
		answer     func(string, *dns.Msg, []byte) [][]byte
	}{
		{"mangled", "reading the answer: ", once(func(_ *dns.Msg, well []byte) []byte { return well[:len(well)-5] })},
		{"no message", "reading the answer: ", once(func(*dns.Msg, []byte) []byte { return []byte("hello") })},
		{"empty", "reading the answer: ", once(func(*dns.Msg, []byte) []byte { return []byte{} })},
		{"another ID", "to another question", once(func(_ *dns.Msg, well []byte) []byte { well[0]++; return well })},
		{"a question", "to another question", once(func(_ *dns.Msg, well []byte) []byte { well[2] &= 0x7f; return well })},
		{"another code", "signature is wrong", once(func(_ *dns.Msg, well []byte) []byte { well[3] |= 1; return well })},
		{"unsigned", "is not signed", once(func(q *dns.Msg, _ []byte) []byte { return pack(q, dns.RcodeSuccess) })},
		{"wrong secret", "signature is wrong", signed(func(_ *dns.Msg, key *Key, _ *string) { key.Secret = make([]byte, 32) })},
		{"replayed", "signature is wrong", signed(func(_ *dns.Msg, _ *Key, mac *string) { *mac = strings.Repeat("00", 32) })},
		{"another key", "by another key", signed(func(m *dns.Msg, _ *Key, _ *string) { m.IsTsig().Hdr.Name = "other." })},
		{"an old one", "was signed 1h", signed(func(m *dns.Msg, _ *Key, _ *string) { m.IsTsig().TimeSigned -= 3601 })},
		{"NOTIMP", "answers NOTIMP: it takes no dynamic updates", once(func(q *dns.Msg, _ []byte) []byte { return pack(q, dns.RcodeNotImplemented) })},
		{"SERVFAIL", "answers SERVFAIL: it could not do it; its log", once(func(q *dns.Msg, _ []byte) []byte { return pack(q, dns.RcodeServerFailure) })},
		{"FORMERR", "answers FORMERR: it does not understand", once(func(q *dns.Msg, _ []byte) []byte { return pack(q, dns.RcodeFormatError) })},
		{"NOTZONE", "answers NOTZONE: ocsp.example.org. does not lie in", once(func(q *dns.Msg, _ []byte) []byte { return pack(q, dns.RcodeNotZone) })},
		{"an odd code", "answers RCODE 14: ", once(func(q *dns.Msg, _ []byte) []byte { return pack(q, 14) })},
		{"BADTIME, forged", "signature is wrong", signed(func(m *dns.Msg, key *Key, _ *string) {
			m.Rcode, m.IsTsig().Error, key.Secret = dns.RcodeNotAuth, dns.RcodeBadTime, make([]byte, 32)
		})},
		{"BADTIME without a time", "answers BADTIME: its clock and ours (2", signed(func(m *dns.Msg, _ *Key, _ *string) {
			m.Rcode, m.IsTsig().Error = dns.RcodeNotAuth, dns.RcodeBadTime
		})},
		{"BADTRUNC", "answers BADTRUNC: it does not take the signature", signed(func(m *dns.Msg, _ *Key, _ *string) {
			m.Rcode, m.IsTsig().Error = dns.RcodeNotAuth, dns.RcodeBadTrunc
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := startFake(t, false, c.answer)
			_, err := apply(z, t.Context(), first, add("192.0.2.1"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q in: %v", c.want, err)
			}
		})
	}
}

// By UDP anybody can send: what does not fit is passed over until the answer comes.
func TestForgedPacketsArePassedOver(t *testing.T) {
	z := startFake(t, true, func(network string, question *dns.Msg, well []byte) [][]byte {
		if network != "udp" {
			return nil
		}
		other := append([]byte{}, well...)
		other[1]++
		forged := append([]byte{}, well...)
		forged[3] |= 5
		return [][]byte{[]byte("?"), other, pack(question, dns.RcodeSuccess), forged, well}
	})
	if err := z.update(t.Context(), Set{Name: first}, addrs("192.0.2.1"), nil); err != nil {
		t.Error(err)
	}
}

// An answer that is cut off at UDP's end is asked for by TCP.
func TestCutOffAnswerIsAskedByTCP(t *testing.T) {
	byTCP := false
	z := startFake(t, true, func(network string, question *dns.Msg, well []byte) [][]byte {
		if network == "tcp" {
			byTCP = true
			return [][]byte{well}
		}
		m := new(dns.Msg).SetReply(question)
		m.Truncated = true
		return [][]byte{(&fake{}).sign(question, m, Key{Name: "ocspctl.", Secret: []byte("0123456789abcdef0123456789abcdef")})}
	})
	if err := z.update(t.Context(), Set{Name: first}, addrs("192.0.2.1"), nil); err != nil || !byTCP {
		t.Errorf("by TCP %v: %v", byTCP, err)
	}
}

// A server that says it was done, and serves something else.
func TestChangeThatIsNotServed(t *testing.T) {
	z := startFake(t, false, func(_ string, _ *dns.Msg, well []byte) [][]byte { return [][]byte{well} })
	z.readPatience = 100 * time.Millisecond
	if done, err := apply(z, t.Context(), first, add("192.0.2.1")); err == nil || !strings.Contains(err.Error(), "reading back a change that was made: "+first+" has ") || done.None() {
		t.Errorf("%+v, %v", done, err)
	}
}

// Silence ends after three tries, and at once when the caller gives up.
func TestSilenceEnds(t *testing.T) {
	tries := &recorder[string]{}
	z := startFake(t, true, func(network string, _ *dns.Msg, _ []byte) [][]byte { tries.told(network); return nil })
	z.c.Timeout = 300 * time.Millisecond
	err := z.update(t.Context(), Set{Name: first}, addrs("192.0.2.1"), nil)
	if err == nil || !strings.Contains(err.Error(), "i/o timeout") {
		t.Errorf("%v", err)
	}
	tries.Lock()
	defer tries.Unlock()
	if len(tries.all) > 3 {
		t.Errorf("tried by %v", tries.all)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := z.update(ctx, Set{Name: first}, addrs("192.0.2.1"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// An update of which the answer was lost is not done a second time, and not taken for
// somebody else's.
func TestLostAnswerIsNoFailure(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		z := open(t, p.config(t))
		p.set(t, first, "192.0.2.1", "192.0.2.2")
		times := 0
		done, err := z.Apply(t.Context(), first, remove("192.0.2.1"), func(c Change) error {
			if times++; times == 1 { // as if it had arrived, and its answer had not
				return z.update(t.Context(), Set{Name: first, Records: []Record{{addrs("192.0.2.1")[0], 0}, {addrs("192.0.2.2")[0], 0}}}, nil, c.Removed)
			}
			return nil
		})
		if err != nil || times != 1 || len(done.Removed) != 1 {
			t.Errorf("%d times, %+v, %v", times, done, err)
		}
		p.want(t, first, "192.0.2.2")
	})
}
