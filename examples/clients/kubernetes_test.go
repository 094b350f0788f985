package clients

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

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
