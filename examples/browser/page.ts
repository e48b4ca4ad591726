// A page that calls the registry by gRPC-Web, through the Envoy of ../../deploy/envoy/rest.yaml: it renders a template,
// and shows changes as they happen.
//
// ../README.md says how to try it. A page of a product has a session of Clerk (getToken()) instead of the field.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "./stubs/google/rpc/error_details_pb";
import { ChangeKind } from "./stubs/omniflo/templates/v1/change_pb";
import { ChangeService } from "./stubs/omniflo/templates/v1/change_service_pb";
import { TemplateService } from "./stubs/omniflo/templates/v1/template_service_pb";

const form = document.querySelector("form")!;
const rendered = document.querySelector("#rendered")!;
const changes = document.querySelector("#changes")!;
let watching = new AbortController();

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  const said = (name: string) => String(fields.get(name));
  const identify: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${said("token")}`);
    return next(request);
  };
  const transport = createGrpcWebTransport({ baseUrl: said("registry"), interceptors: [identify] });
  void render(transport, said("type"));
  watching.abort();
  watching = new AbortController();
  void watch(transport, watching.signal);
});

async function render(transport: ReturnType<typeof createGrpcWebTransport>, templateType: string): Promise<void> {
  try {
    const templates = createClient(TemplateService, transport);
    const key = { case: "resolve", value: { templateType } } as const;
    const { responsesRequest } = await templates.renderTemplate({ key }, { timeoutMs: 5000 });
    rendered.textContent = responsesRequest;
  } catch (error) {
    rendered.textContent = explain(error);
  }
}

async function watch(transport: ReturnType<typeof createGrpcWebTransport>, signal: AbortSignal): Promise<void> {
  try {
    for await (const response of createClient(ChangeService, transport).watchChanges({}, { signal })) {
      // The first response has no changes: everything after it is sent.
      changes.setAttribute("data-watched", "");
      changes.append(...response.changes.map(({ kind, resourceId }) => item(`${ChangeKind[kind]} ${resourceId}`)));
    }
  } catch (error) {
    if (!signal.aborted) changes.append(item(explain(error)));
  }
}

function item(text: string): HTMLLIElement {
  const made = document.createElement("li");
  made.textContent = text;
  return made;
}

/** Says what an error says: its code, its reason and its message. */
function explain(error: unknown): string {
  const failure = ConnectError.from(error);
  const reasons = failure.findDetails(ErrorInfoSchema).map((info) => ` ${info.reason}`);
  return `${Code[failure.code]}${reasons.join("")}: ${failure.rawMessage}`;
}
