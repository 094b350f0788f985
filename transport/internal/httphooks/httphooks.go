// Package httphooks keeps the net/http/httptrace hooks of one request from another.
package httphooks

import (
	"context"
	"net/http/httptrace"
)

// Without returns a context without the net/http/httptrace hooks of ctx. Those belong to a
// request of the program: they must not be called after it has ended, nor see the client
// secret. Hooks that do nothing replace those that net/http keeps under a key of its own.
func Without(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(hookless{ctx}, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) {}, DNSDone: func(httptrace.DNSDoneInfo) {},
		ConnectStart: func(string, string) {}, ConnectDone: func(string, string, error) {},
	})
}

type hookless struct{ context.Context }

func (h hookless) Value(key any) any {
	v := h.Context.Value(key)
	if _, hooks := v.(*httptrace.ClientTrace); hooks {
		return nil
	}
	return v
}
