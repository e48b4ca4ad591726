// The first calls of a caller: render a template, change one field of it with a mask, and read an error.
//
//     node dist/first_calls.js TEMPLATE_TYPE [USER_ID]
//
// ../README.md says how to run it. The registry is at TEMPLATES_ADDRESS (127.0.0.1:50051 unless set). TEMPLATES_KEY is
// an API key, whose owner is the user if no other is given.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema } from "./stubs/google/rpc/error_details_pb.js";
import { TemplateService } from "./stubs/omniflo/templates/v1/template_service_pb.js";

// Says which calls may be retried. Connect does not read it by itself; grpc-js does, as its option grpc.service_config.
const [{ name: names, retryPolicy }] = JSON.parse(readFileSync("../../docs/service_config.json", "utf8")).methodConfig;
const retried = new Set(names.map((name: { service: string; method: string }) => `${name.service}/${name.method}`));

const retry: Interceptor = (next) => async (request) => {
  const mayRetry = retried.has(`${request.method.parent.typeName}/${request.method.name}`);
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const isUnavailable = ConnectError.from(error).code === Code.Unavailable;
      if (!mayRetry || !isUnavailable || attempt === retryPolicy.maxAttempts) throw error;
      const backoff = parseFloat(retryPolicy.initialBackoff) * retryPolicy.backoffMultiplier ** (attempt - 1);
      await setTimeout(Math.random() * 1000 * Math.min(backoff, parseFloat(retryPolicy.maxBackoff)));
    }
  }
};

const identify: Interceptor = (next) => (request) => {
  if (process.env.TEMPLATES_KEY) request.header.set("authorization", `Bearer ${process.env.TEMPLATES_KEY}`);
  return next(request);
};

const templates = createClient(
  TemplateService,
  createGrpcTransport({
    // On a network: https.
    baseUrl: `http://${process.env.TEMPLATES_ADDRESS ?? "127.0.0.1:50051"}`,
    defaultTimeoutMs: 5000,
    interceptors: [retry, identify],
  }),
);

async function main(templateType: string, userId = ""): Promise<void> {
  const rendered = await templates.renderTemplate({ key: { case: "resolve", value: { userId, templateType } } });
  console.log(`send to OpenAI: ${rendered.responsesRequest}`);
  for (const { field, reason } of rendered.adjustments) console.log(`left out: ${field}: ${reason}`);

  // Only what the mask names is changed, and with the etag only if nobody else has changed the template since. A write
  // with a request_id can be sent again.
  const { id, etag } = rendered.template!;
  const updated = await templates.updateTemplate({
    template: { id, etag, description: "Used from TypeScript" },
    updateMask: { paths: ["description"] },
    requestId: randomUUID(),
  });
  console.log(`description: ${updated.description}`);

  try {
    await templates.updateTemplate({ template: { id, temperature: 3 }, updateMask: { paths: ["temperature"] } });
  } catch (error) {
    console.log(explain(error));
  }
}

/** Says what an error says: its code, its reason, and which fields are wrong. */
function explain(error: unknown): string {
  const failure = ConnectError.from(error);
  // The reason is a value of ErrorReason without its prefix: ERROR_REASON_FIELD_INVALID is FIELD_INVALID.
  const reasons = failure.findDetails(ErrorInfoSchema).map((info) => ` ${info.reason}`);
  const violations = failure.findDetails(BadRequestSchema).flatMap((request) => request.fieldViolations);
  const lines = violations.map(({ field, description }) => `\n  ${field}: ${description}`);
  return `${Code[failure.code]}${reasons.join("")}: ${failure.rawMessage}${lines.join("")}`;
}

const [templateType, userId] = process.argv.slice(2);
if (!templateType) {
  console.error("node dist/first_calls.js TEMPLATE_TYPE [USER_ID]");
  process.exit(2);
}
try {
  await main(templateType, userId);
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
}
