package oauthtest

import (
	"bytes"
	"io"
	"net/http"
	"time"
)

// Hang never answers. It ends when the client goes away or the server closes.
func Hang(http.Handler) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// The end of the connection is noticed only once the body has been read.
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// Slow lets the endpoint do its work later, by d, even if the client has gone by then, like a
// server that works through a queue. AfterCommit(Slow(d)) does the work at once, and only the
// answer is late.
func Slow(d time.Duration) Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r, err := whole(r)
			if err != nil || !sleep(r.Context(), d) {
				panic(http.ErrAbortHandler)
			}
			endpoint.ServeHTTP(w, r)
		})
	}
}

// Stall sends the header and half of the body of f's answer, and then nothing more, as long as
// the client waits: Stall(Challenge(401)).
func Stall(f Fault) Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := genuine(f(endpoint), r)
			a.begin(w)
			w.Write(a.body.Bytes()[:a.body.Len()/2])
			http.NewResponseController(w).Flush()
			Hang(nil).ServeHTTP(w, r)
		})
	}
}

// Drip lets the endpoint do its work, and sends the answer one byte at a time,
// with a pause before each.
func Drip(pause time.Duration) Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := genuine(endpoint, r)
			a.begin(w)
			for _, b := range a.body.Bytes() {
				http.NewResponseController(w).Flush()
				if !sleep(r.Context(), pause) {
					return
				}
				w.Write([]byte{b})
			}
		})
	}
}

// Endless answers 200 with JSON that never ends, for as long as the client reads.
func Endless(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		chunk := bytes.Repeat([]byte("a"), 32<<10)
		_, err := w.Write([]byte(`{"access_token":"`))
		for r.Method != http.MethodHead && err == nil && r.Context().Err() == nil {
			_, err = w.Write(chunk)
		}
	})
}
