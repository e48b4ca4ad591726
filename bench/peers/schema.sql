-- The tables of schema.prisma, as `prisma migrate` writes them.
CREATE TYPE "OpenAIToolType" AS ENUM ('file_search', 'code_interpreter', 'function');

CREATE TABLE "User" (
  "id" TEXT NOT NULL,
  "clerkId" TEXT NOT NULL,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "User_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "Template" (
  "id" TEXT NOT NULL,
  "title" TEXT NOT NULL,
  "description" TEXT NOT NULL,
  "instructions" TEXT NOT NULL,
  "userId" TEXT NOT NULL,
  "templateTypeId" TEXT NOT NULL,
  "isDefault" BOOLEAN NOT NULL DEFAULT false,
  "modelId" TEXT NOT NULL,
  "temperature" DOUBLE PRECISION NOT NULL,
  "assistantId" TEXT,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "Template_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "TemplateType" (
  "id" TEXT NOT NULL,
  "name" TEXT NOT NULL,
  "description" TEXT NOT NULL,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "TemplateType_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "TemplateTool" (
  "id" TEXT NOT NULL,
  "name" TEXT NOT NULL,
  "type" "OpenAIToolType" NOT NULL,
  "description" TEXT NOT NULL,
  "schema" JSONB,
  "templateTypeId" TEXT NOT NULL,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "TemplateTool_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "OpenAIModel" (
  "id" TEXT NOT NULL,
  "openAIId" TEXT NOT NULL,
  "name" TEXT NOT NULL,
  "description" TEXT,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "OpenAIModel_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "UserTemplateSelection" (
  "id" TEXT NOT NULL,
  "userId" TEXT NOT NULL,
  "templateId" TEXT NOT NULL,
  "templateTypeId" TEXT NOT NULL,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "UserTemplateSelection_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "User_clerkId_key" ON "User"("clerkId");
CREATE UNIQUE INDEX "TemplateType_name_key" ON "TemplateType"("name");
CREATE UNIQUE INDEX "TemplateTool_name_type_key" ON "TemplateTool"("name", "type");
CREATE UNIQUE INDEX "OpenAIModel_openAIId_key" ON "OpenAIModel"("openAIId");
CREATE UNIQUE INDEX "UserTemplateSelection_userId_templateTypeId_key"
  ON "UserTemplateSelection"("userId", "templateTypeId");

ALTER TABLE "Template" ADD CONSTRAINT "Template_templateTypeId_fkey"
  FOREIGN KEY ("templateTypeId") REFERENCES "TemplateType"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "Template" ADD CONSTRAINT "Template_modelId_fkey"
  FOREIGN KEY ("modelId") REFERENCES "OpenAIModel"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "Template" ADD CONSTRAINT "Template_userId_fkey"
  FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "TemplateTool" ADD CONSTRAINT "TemplateTool_templateTypeId_fkey"
  FOREIGN KEY ("templateTypeId") REFERENCES "TemplateType"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "UserTemplateSelection" ADD CONSTRAINT "UserTemplateSelection_templateTypeId_fkey"
  FOREIGN KEY ("templateTypeId") REFERENCES "TemplateType"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "UserTemplateSelection" ADD CONSTRAINT "UserTemplateSelection_templateId_fkey"
  FOREIGN KEY ("templateId") REFERENCES "Template"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "UserTemplateSelection" ADD CONSTRAINT "UserTemplateSelection_userId_fkey"
  FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
