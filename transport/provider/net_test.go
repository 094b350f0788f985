package provider_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/provider"
)

// redirectURI is where logins of these tests come back to.
const redirectURI = "http://127.0.0.1:49152/callback"

// A net is a network on which only a provider is, and it has few answers.
type net struct {
	t   *testing.T
	dir string

	mu       sync.Mutex
	next     []string // answers in wire form that are given first
	answer   string   // the file in dir that is given then, without its ".http"
	requests []sent
}

// A sent is a request as it was seen on the net.
type sent struct {
	method, url string
	header      http.Header
	form        url.Values
}

func (n *net) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		n.t.Errorf("the body is not a form: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests = append(n.requests, sent{req.Method, req.URL.String(), req.Header, form})
	var wire string
	switch {
	case len(n.next) > 0:
		wire, n.next = n.next[0], n.next[1:]
	case n.answer == "":
		return nil, errors.New("nobody answers")
	default:
		b, err := os.ReadFile(filepath.Join(n.dir, n.answer+".http"))
		if err != nil {
			n.t.Error(err)
			return nil, err
		}
		wire = string(b)
	}
	return http.ReadResponse(bufio.NewReader(strings.NewReader(wire)), req)
}

// answers sets the answer to all further requests.
func (n *net) answers(file string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = file
}

// first sets answers of status 200 that are given before any other.
func (n *net) first(bodies ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, body := range bodies {
		n.next = append(n.next, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"+body)
	}
}

// seen returns how many requests there were, and the last one.
func (n *net) seen() (count int, last sent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.requests) > 0 {
		last = n.requests[len(n.requests)-1]
	}
	return len(n.requests), last
}

// endpoint returns a confidential client's endpoint of p on this net.
func (n *net) endpoint(p *provider.Provider) *endpoint.Endpoint {
	e := p.Endpoint("client", "secret")
	e.Base = n
	return e
}
