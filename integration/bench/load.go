package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is what one run of load measured.
type result struct {
	Requests int
	Seconds  float64
	CPU      float64 // of the server, in microseconds per request
	P50, P99 time.Duration
}

// load sends the requests in rotation over so many keep-alive connections and
// counts the CPU time that the server's process spends meanwhile.
func load(ctx context.Context, pid int, addr string, requests [][]byte, connections int, length time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	before, err := cpuTime(pid)
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	var mu sync.Mutex
	var wait sync.WaitGroup
	var took []time.Duration
	var failed error
	for c := range connections {
		wait.Go(func() {
			mine, err := one(ctx, addr, requests, c*len(requests)/connections)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if err != nil {
				failed = err
			}
		})
	}
	wait.Wait()
	seconds := time.Since(began).Seconds()
	after, err := cpuTime(pid)
	if err != nil {
		return result{}, err
	}
	if failed != nil || len(took) == 0 {
		return result{}, fmt.Errorf("loading %s: %d answers, %w", addr, len(took), failed)
	}
	slices.Sort(took)
	return result{
		Requests: len(took), Seconds: seconds, CPU: float64((after - before).Microseconds()) / float64(len(took)),
		P50: took[len(took)/2], P99: took[len(took)*99/100],
	}, nil
}

// one keeps a connection busy until ctx ends; each answer must be a 200.
func one(ctx context.Context, addr string, requests [][]byte, at int) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 16<<10)
	var took []time.Duration
	for ; ctx.Err() == nil; at++ {
		began := time.Now()
		if _, err := conn.Write(requests[at%len(requests)]); err != nil {
			return took, err
		}
		if err := readAnswer(reader); err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// readAnswer reads one HTTP answer with a Content-Length, without net/http: the
// client shares the cores with the server.
func readAnswer(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "HTTP/1.1 200 ") {
		return fmt.Errorf("answered %q", line)
	}
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		const key = "Content-Length: "
		if len(line) > len(key) && strings.EqualFold(string(line[:len(key)]), key) {
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[len(key):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer without %s", http.CanonicalHeaderKey("content-length"))
	}
	_, err = r.Discard(length)
	return err
}

// cpuTime is the user and system time of a process, from /proc (in ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading /proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// residentMB is the resident memory of a process in MiB.
func residentMB(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, io.ErrUnexpectedEOF
}
