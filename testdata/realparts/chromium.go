package realparts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A Chromium is a real browser without a window, steered through a pipe (the Chrome
// DevTools Protocol). It ends with the test, and also if the test process dies.
type Chromium struct {
	*devtools
	t testing.TB // whose failures are those of the browser
}

// A devtools is the connection to the browser.
type devtools struct {
	pipe *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// StartChromium starts a browser that ends with the test.
func StartChromium(t testing.TB) *Chromium {
	t.Helper()
	const what = "a browser (Debian: apt-get install chromium)"
	path, err := exec.LookPath("chromium")
	if err != nil {
		path, err = exec.LookPath("google-chrome")
	}
	Require(t, what, err)
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	c := &Chromium{&devtools{pipe: in, waiting: map[int]chan reply{}}, t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read(out)
	}()
	t.Cleanup(func() {
		c.send("", "Browser.close", nil)
		stuck := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		cmd.Wait()
		in.Close()
		out.Close()
		<-done
		if t.Failed() {
			t.Logf("the browser said:\n%s", stderr.Bytes())
		}
	})
	return c
}

// read hands out the replies. Events are of no interest.
func (c *devtools) read(out *os.File) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			break
		}
		var m struct {
			ID int
			reply
		}
		if json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &m) != nil || m.ID == 0 {
			continue
		}
		c.mu.Lock()
		if ch := c.waiting[m.ID]; ch != nil {
			ch <- m.reply
			delete(c.waiting, m.ID)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.waiting {
		close(ch)
	}
	c.waiting = nil
}

// send sends a command and returns where its reply will come.
func (c *devtools) send(session, method string, params map[string]any) <-chan reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	message := map[string]any{"id": c.last, "method": method}
	if params != nil {
		message["params"] = params
	}
	if session != "" {
		message["sessionId"] = session
	}
	b, err := json.Marshal(message)
	ch := make(chan reply, 1)
	if err != nil || c.waiting == nil {
		close(ch)
		return ch
	}
	c.waiting[c.last] = ch
	c.pipe.Write(append(b, 0))
	return ch
}

// browserTimeout is far longer than anything takes here, also on a busy machine.
const browserTimeout = time.Minute

// call sends a command and waits for its reply.
func (c *Chromium) call(session, method string, params map[string]any, result any) {
	c.t.Helper()
	if err := c.try(session, method, params, result); err != nil {
		c.t.Fatal(err)
	}
}

func (c *devtools) try(session, method string, params map[string]any, result any) error {
	select {
	case r, ok := <-c.send(session, method, params):
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser has ended", method)
		case r.Error != nil:
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-time.After(browserTimeout):
		return fmt.Errorf("%s: no reply", method)
	}
}
