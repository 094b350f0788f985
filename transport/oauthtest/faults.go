package oauthtest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Fault is something that goes wrong with one request. It stands in front of the endpoint,
// and either answers in its place, so that nothing is committed, or lets it do its work and
// spoils the answer. Any middleware will do; those below do what real providers, proxies and
// networks have been seen to do.
type Fault func(endpoint http.Handler) http.Handler

// A queued fault waits for requests.
type queued struct {
	path  string
	left  int // 0: for ever
	fault Fault
}

// Fault makes the next requests whose path begins with path ("/token", "/api") run into f: as
// many as times says or, if times is zero, all until Heal. Faults for the same path take effect
// one after the other. The path "" means every request, those to the API included.
//
// HEAD requests to anything but the API run into the same fault as the next request, but do not
// use it up, see [Counts].Questions.
func (s *Server) Fault(path string, times int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &queued{path, max(times, 0), f})
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFault returns the fault that a request runs into now, or nil.
func (s *Server) takeFault(r *http.Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.nextFault(r.URL.Path)
	if i < 0 {
		return nil
	}
	q := s.faults[i]
	if isQuestion(r) {
		return q.fault
	}
	if q.left == 1 {
		s.faults = slices.Delete(s.faults, i, i+1)
	} else if q.left > 1 {
		q.left--
	}
	return q.fault
}

// hasFault reports whether a request to path would run into a fault.
func (s *Server) hasFault(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextFault(path) >= 0
}

func (s *Server) nextFault(path string) int {
	return slices.IndexFunc(s.faults, func(q *queued) bool { return strings.HasPrefix(path, q.path) })
}

// AfterCommit lets the endpoint do its work, throws the answer away, and then runs into f: a
// refresh token is spent, and its successor is lost. AfterCommit(Drop) is a network that fails
// at the wrong moment. Faults that let the endpoint do its work themselves, such as Truncate,
// do not need it.
func AfterCommit(f Fault) Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := genuine(endpoint, r)
			done := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { a.send(w) })
			f(done).ServeHTTP(w, r)
		})
	}
}

// Drop closes the connection without an answer.
func Drop(http.Handler) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Answer answers in place of the endpoint.
func Answer(status int, contentType, body string) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			w.Write([]byte(body))
		})
	}
}

// Status answers with a status, such as 503 or 429, and a plain text, not an OAuth error. If
// retryAfter is positive, there is a Retry-After in seconds.
func Status(status int, retryAfter time.Duration) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
			}
			http.Error(w, http.StatusText(status), status)
		})
	}
}

// HTML answers 200 with a web page, like a captive portal or a proxy.
func HTML(endpoint http.Handler) http.Handler {
	const page = "<!DOCTYPE html><title>Sign in</title><p>Please sign in to the network."
	return Answer(http.StatusOK, "text/html; charset=utf-8", page)(endpoint)
}

// Challenge answers with status 401 or 403 and a WWW-Authenticate header for each of the
// challenges.
func Challenge(status int, challenges ...string) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range challenges {
				w.Header().Add("WWW-Authenticate", c)
			}
			writeJSON(w, status, map[string]string{"error": "refused"})
		})
	}
}

// Redirect answers with a redirect to the URL.
func Redirect(status int, url string) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", url)
			w.WriteHeader(status)
		})
	}
}

// Truncate lets the endpoint do its work, and closes the connection in the
// middle of the answer.
func Truncate(endpoint http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := genuine(endpoint, r)
		a.begin(w)
		w.Write(a.body.Bytes()[:a.body.Len()/2])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// Edit lets the endpoint do its work, and changes the JSON of its answer:
// expires_in as a string, token_type "mac", no access_token.
func Edit(change func(answer map[string]any)) Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := genuine(endpoint, r)
			if isQuestion(r) { // Its answer has nothing to change.
				a.send(w)
				return
			}
			fields := a.fields()
			change(fields)
			maps.Copy(w.Header(), a.header)
			writeJSON(w, a.status, fields)
		})
	}
}

// PlainText lets the endpoint do its work, and labels its JSON text/plain.
func PlainText(endpoint http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := genuine(endpoint, r)
		a.header.Set("Content-Type", "text/plain; charset=utf-8")
		a.send(w)
	})
}

// FormEncoded lets the endpoint do its work, and answers in form encoding, as
// GitHub does unless it is asked for JSON, and Facebook once did.
func FormEncoded(endpoint http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := genuine(endpoint, r)
		form := url.Values{}
		for k, v := range a.fields() {
			if s, ok := v.(string); ok {
				form.Set(k, s)
			} else {
				b, _ := json.Marshal(v) // It came out of JSON.
				form.Set(k, string(b))
			}
		}
		a.header.Set("Content-Type", "application/x-www-form-urlencoded")
		a.body.Reset()
		a.body.WriteString(form.Encode())
		a.send(w)
	})
}

// ErrorStatus lets the endpoint do its work, and if its answer is an error, gives it another
// status: 200 as GitHub and Slack do, or 403 as Auth0 and Atlassian do.
func ErrorStatus(status int) Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := genuine(endpoint, r)
			if a.status >= 400 {
				a.status = status
			}
			a.send(w)
		})
	}
}

// ErrorObject lets the endpoint do its work, and if its answer is an error, makes "error" an
// object, as Facebook does: code 190 for invalid_grant, else 1.
func ErrorObject(endpoint http.Handler) http.Handler {
	return Edit(func(answer map[string]any) {
		if code, failed := answer["error"]; failed {
			number := 1
			if code == "invalid_grant" {
				number = 190
			}
			answer["error"] = map[string]any{"type": "OAuthException", "code": number, "message": answer["error_description"]}
			delete(answer, "error_description")
		}
	})(endpoint)
}
