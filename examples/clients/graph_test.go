package clients

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	kiota "github.com/microsoft/kiota-abstractions-go"
	"github.com/microsoft/kiota-abstractions-go/authentication"
	kiotahttp "github.com/microsoft/kiota-http-go"
	graph "github.com/microsoftgraph/msgraph-sdk-go-core"

	"github.com/stayauth/stayauth/transport"
)

// Microsoft Graph, with its middleware and without. Bodies have no length, and can seek.
func TestGraph(t *testing.T) {
	for _, method := range []string{"GET", "PUT"} {
		t.Run(method, func(t *testing.T) {
			testGraph(t, method, func(client *http.Client) {
				client.Transport = kiotahttp.NewCustomTransportWithParentTransport(client.Transport, graph.GetDefaultMiddlewaresWithOptions(&graph.GraphClientOptions{})...)
			})
		})
		t.Run(method+" without middleware", func(t *testing.T) { testGraph(t, method, func(*http.Client) {}) })
	}
}

func testGraph(t *testing.T, method string, middleware func(*http.Client)) {
	api := http.NewServeMux()
	api.HandleFunc("GET /v1.0/me", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "alice") })
	api.HandleFunc("PUT /v1.0/me/drive/items/1/content", func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		io.WriteString(w, hash(body))
	})
	w := newWorld(t, api, atFirst(method), transport.Config{})
	middleware(w.client)
	adapter, err := graph.NewGraphRequestAdapterBaseWithParseNodeFactoryAndSerializationWriterFactoryAndHttpClient(
		&authentication.AnonymousAuthenticationProvider{}, graph.GraphClientOptions{}, nil, nil, w.client)
	if err != nil {
		t.Fatal(err)
	}
	adapter.SetBaseUrl(apiURL + "/v1.0")
	request := func(ctx context.Context, method kiota.HttpMethod, path string, content []byte) (string, error) {
		info := kiota.NewRequestInformationWithMethodAndUrlTemplateAndPathParameters(method, "{+baseurl}"+path, map[string]string{})
		if content != nil {
			info.SetStreamContentAndContentType(content, "application/octet-stream")
		}
		answer, err := adapter.SendPrimitive(ctx, info, "[]byte", nil)
		if err != nil {
			return "", err
		}
		return string(answer.([]byte)), nil
	}
	w.keepsWorking(func(ctx context.Context) error {
		got, err := request(ctx, kiota.PUT, "/me/drive/items/1/content", large)
		if err != nil || got != hashOfLarge {
			return fmt.Errorf("the file arrived as %q: %w", got, err)
		}
		user, err := request(ctx, kiota.GET, "/me", nil)
		if err != nil || user != "alice" {
			return fmt.Errorf("the user is %q: %w", user, err)
		}
		return nil
	})
}
