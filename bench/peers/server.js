// The peers: TemplateService on grpc-js over the seed's tables.
//
//   node server.js prisma|joins|pg SOCKET_FOLDER DATABASE [PROCESSES]
//
// prints `listening PORT` when all processes take calls.

import cluster from "node:cluster";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";

const [kind, socketFolder, database, processes = "1"] = process.argv.slice(2);

// A connection that is closed when idle would be opened anew within a measurement.
const connection = { host: socketFolder, user: "postgres", database, idleTimeoutMillis: 0 };

// As the seed writes it.
const include = { templateType: true, user: true, model: true };

// How many statements one template takes: itself and three includes, or all of them joined into one.
const STATEMENTS = { seed: 4, joins: 1 };

async function prisma(client, options) {
  const { PrismaClient } = createRequire(import.meta.url)(`./generated/${client}`);
  const adapter = new PrismaPg(connection);
  const queriesOf = (prisma) => ({
    get: (id) => prisma.template.findFirst({ where: { id }, include, ...options }),
    list: (take) => prisma.template.findMany({ include, orderBy: { createdAt: "desc" }, take, ...options }),
  });
  // A preview feature changes what the same query sends, so what is sent is counted once, and not believed.
  const counted = new PrismaClient({ adapter, log: [{ emit: "event", level: "query" }] });
  let statements = 0;
  counted.$on("query", () => (statements += 1));
  await queriesOf(counted).list(1);
  await counted.$disconnect();
  if (statements !== STATEMENTS[client]) throw new Error(`${client} sent ${statements} statements for a template`);
  return queriesOf(new PrismaClient({ adapter: new PrismaPg(connection) }));
}

// Only what the answer has, in one prepared statement each: what somebody writes who needs it to be fast.
const SELECT = `
  select t.*, tt.name as "typeName", m."openAIId"
  from "Template" t join "TemplateType" tt on tt.id = t."templateTypeId" join "OpenAIModel" m on m.id = t."modelId"`;

function plain() {
  const pool = new pg.Pool(connection);
  const rows = async (name, tail, value) => {
    const { rows } = await pool.query({ name, text: `${SELECT} ${tail}`, values: [value] });
    return rows.map(({ typeName, openAIId, ...row }) => ({
      ...row,
      templateType: { name: typeName },
      model: { openAIId },
    }));
  };
  return {
    get: async (id) => (await rows("get", "where t.id = $1", id))[0],
    list: (take) => rows("list", `order by t."createdAt" desc limit $1`, take),
  };
}

const QUERIES = {
  prisma: () => prisma("seed", {}),
  joins: () => prisma("joins", { relationLoadStrategy: "join" }),
  pg: plain,
};

function timestamp(date) {
  const milliseconds = date.getTime();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: (milliseconds - seconds * 1000) * 1e6 || undefined };
}

// The seed has no version to make an etag of; this one has the size of the service's.
function etag(row) {
  return createHash("sha256").update(`${row.id}:${row.updatedAt.getTime()}`).digest("base64url").slice(0, 12);
}

// protobufjs would send a default that is set, which no other server here does.
function message(row) {
  return {
    id: row.id,
    title: row.title,
    description: row.description,
    instructions: row.instructions,
    user_id: row.userId,
    template_type: row.templateType.name,
    is_default: row.isDefault || undefined,
    model: row.model.openAIId,
    temperature: row.temperature,
    assistant_id: row.assistantId || undefined,
    assistant_state: "ASSISTANT_STATE_NONE",
    create_time: timestamp(row.createdAt),
    update_time: timestamp(row.updatedAt),
    etag: etag(row),
    revision: 1,
  };
}

function answering(work) {
  return (call, callback) =>
    work(call.request).then(
      (answer) => callback(null, answer),
      (error) => callback({ code: error.code ?? grpc.status.INTERNAL, details: String(error) }),
    );
}

async function serve(ready) {
  const root = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
  const definition = loadSync("omniflo/templates/v1/template_service.proto", {
    includeDirs: [root("protos"), root("third_party")],
    keepCase: true,
    defaults: true,
  });
  const { TemplateService } = grpc.loadPackageDefinition(definition).omniflo.templates.v1;
  const queries = await QUERIES[kind]();
  const server = new grpc.Server();
  server.addService(TemplateService.service, {
    GetTemplate: answering(async ({ id }) => {
      const row = await queries.get(id);
      if (!row) throw Object.assign(new Error("the template does not exist"), { code: grpc.status.NOT_FOUND });
      return message(row);
    }),
    ListTemplates: answering(async ({ page_size }) => ({ templates: (await queries.list(page_size)).map(message) })),
  });
  // In a cluster, port 0 is the same free port for all.
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => {
    if (error) throw error;
    ready(bound);
  });
}

const listening = (port) => console.log(`listening ${port}`);

if (processes === "1") {
  await serve(listening);
} else if (cluster.isPrimary) {
  // All workers listen on one port, and the primary deals connections out in turn.
  const ports = [];
  for (let n = 0; n < Number(processes); n += 1) {
    cluster.fork().on("message", (port) => {
      ports.push(port);
      if (ports.length === Number(processes)) listening(port);
    });
  }
  cluster.on("exit", () => process.exit(1));
} else {
  await serve((port) => process.send(port));
}
