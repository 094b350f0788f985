package oauthtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
)

// A recorder is an answer that has not been sent yet.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// genuine lets the endpoint do its work and returns its answer.
func genuine(endpoint http.Handler, r *http.Request) *recorder {
	a := &recorder{header: http.Header{}}
	endpoint.ServeHTTP(a, r)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorder) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// begin sends the header, which promises the whole body.
func (a *recorder) begin(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	w.WriteHeader(a.status)
}

func (a *recorder) send(w http.ResponseWriter) {
	a.begin(w)
	w.Write(a.body.Bytes())
}

// fields returns the JSON object of the answer, or an empty map if it is none.
func (a *recorder) fields() map[string]any {
	m := map[string]any{}
	if json.Unmarshal(a.body.Bytes(), &m) != nil {
		return map[string]any{}
	}
	return m
}
