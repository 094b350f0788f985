package clients

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/stayauth/stayauth/transport"
)

// The config has no token and no certificate of its own.
func TestKubernetes(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) { testKubernetes(t, atFirst(method)) })
	}
}

func testKubernetes(t *testing.T, reject func(*http.Request) bool) {
	const answer = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}`
	api := http.NewServeMux()
	api.HandleFunc("GET /api/v1/namespaces/default/configmaps/c", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, answer)
	})
	api.HandleFunc("POST /api/v1/namespaces/default/configmaps", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	w := newWorld(t, asJSON(api), reject, transport.Config{})
	client, err := dynamic.NewForConfigAndClient(&rest.Config{Host: apiURL, QPS: -1}, w.client)
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
	w.keepsWorking(func(ctx context.Context) error {
		object := &unstructured.Unstructured{}
		object.SetUnstructuredContent(map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "c"}, "data": map[string]any{"large": string(large)},
		})
		made, err := maps.Create(ctx, object, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if data, _, _ := unstructured.NestedString(made.Object, "data", "large"); data != string(large) {
			return fmt.Errorf("%d bytes arrived", len(data))
		}
		_, err = maps.Get(ctx, "c", metav1.GetOptions{})
		return err
	})
}

// The config wraps its own transport, which knows the certificates of the cluster. So the token is
// also in requests that become a connection, for which client-go has another transport.
func TestKubernetesExec(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(serveExec), atFirst("POST"), transport.Config{})
	host := "https://" + w.addr
	config := &rest.Config{
		Host: host, TLSClientConfig: rest.TLSClientConfig{CAData: w.ca},
		WrapTransport: func(base http.RoundTripper) http.RoundTripper {
			rt, err := transport.New(transport.Config{Source: w.source, Origins: []string{host}, Base: base})
			if err != nil {
				t.Fatal(err)
			}
			return rt
		},
	}
	address, err := url.Parse(host + "/api/v1/namespaces/default/pods/p/exec")
	if err != nil {
		t.Fatal(err)
	}
	w.keepsWorking(func(ctx context.Context) error {
		exec, err := remotecommand.NewSPDYExecutor(config, "POST", address)
		if err != nil {
			return err
		}
		var out strings.Builder
		err = exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out})
		if err == nil && out.String() != "hello" {
			err = fmt.Errorf("got %q", out.String())
		}
		return err
	})
}

// serveExec is a pod whose command says hello.
func serveExec(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 2)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	for range cap(streams) { // stdout and errors
		s := <-streams
		if s.Headers().Get("streamType") == "stdout" {
			io.WriteString(s, "hello")
		}
		s.Close()
	}
	<-conn.CloseChan()
}
