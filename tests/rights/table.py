"""Who may do what: the outcome of every method, for every field that names a thing, for every caller.

A row says: when this field of this method names this thing, that comes of the call for each caller.

    people    stranger (the ADMIN of another organization), viewer, member, author, admin (of the house), platform's
              admin, removed (a former member of the house, and the author of a template there)
    services  reader, writer, root (a service with the role admin), each calling for nobody
    for       writer for the author, writer for the platform's admin, root for the platform's admin
    keys      of the house's admin, who is ADMIN of the annex too: a READ key, a WRITE key, a WRITE key for the house

    +  done
    !  PERMISSION_DENIED
    ?  NOT_FOUND, with the reason at the end of the row
    o  NOT_FOUND ORGANIZATION_NOT_FOUND
    m  FAILED_PRECONDITION TEMPLATE_ORGANIZATION_MISMATCH

What belongs to the house, to another organization (foreign) or to a second one of the admin's (annex) has that for its
first word; what is platform-wide begins with `wide`. `own` is the caller's (a service that calls for nobody asks about
the author, or for the author's), `none` is an empty field, and no thing is called `missing`. Behind a comma stands what
else the request does, of VARIANTS in requests.py. A field of `-` is a method without a field that names a thing.

That whoever has no identity is UNAUTHENTICATED, and that a foreign thing is answered exactly as a missing one, holds
for every row and is not repeated in it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.rights.world import CALLERS, KEYS, RECORDS, TEMPLATES, USERS, Caller, organization_of

TABLE = """
#                                                                       people  services for keys

# Users
ProvisionUser         clerk_id                    own                   +++++++ !++ +++ !++
ProvisionUser         clerk_id                    missing               !!!!!!! !++ !!! !!!
GetUser               id                          own                   +++++++ +++ +++ +++
GetUser               id                          missing               ??????? ??? ??? ???  USER_NOT_FOUND
GetUser               id                          recluse               ??????? +++ ??? ???  USER_NOT_FOUND
GetUser               clerk_id                    own                   +++++++ +++ +++ +++
GetUser               clerk_id                    missing               ??????? ??? ??? ???  USER_NOT_FOUND
GetUser               clerk_id                    clerk-recluse         ??????? +++ ??? ???  USER_NOT_FOUND
ListUsers             -                           -                     +++++++ +++ +++ +++
DeleteUser            id                          own                   +++++++ !++ +++ !+!
DeleteUser            id                          missing               ??????? !?? ??? !??  USER_NOT_FOUND
DeleteUser            id                          recluse               ??????? !++ ??? !??  USER_NOT_FOUND

# Types and their tools
CreateTemplateType    -                           -                     !!!!!+! !!+ !!+ !!!
GetTemplateType       id                          type                  +++++++ +++ +++ +++
GetTemplateType       id                          missing               ??????? ??? ??? ???  TEMPLATE_TYPE_NOT_FOUND
GetTemplateType       name                        kind                  +++++++ +++ +++ +++
GetTemplateType       name                        missing               ??????? ??? ??? ???  TEMPLATE_TYPE_NOT_FOUND
ListTemplateTypes     -                           -                     +++++++ +++ +++ +++
UpdateTemplateType    template_type.id            type                  !!!!!+! !!+ !!+ !!!
UpdateTemplateType    template_type.id            missing               !!!!!?! !!? !!? !!!  TEMPLATE_TYPE_NOT_FOUND
DeleteTemplateType    id                          type                  !!!!!+! !!+ !!+ !!!
DeleteTemplateType    id                          missing               !!!!!?! !!? !!? !!!  TEMPLATE_TYPE_NOT_FOUND
CreateTemplateTool    template_tool.template_type kind                  !!!!!+! !!+ !!+ !!!
CreateTemplateTool    template_tool.template_type missing               !!!!!?! !!? !!? !!!  TEMPLATE_TYPE_NOT_FOUND
GetTemplateTool       id                          tool                  +++++++ +++ +++ +++
GetTemplateTool       id                          missing               ??????? ??? ??? ???  TEMPLATE_TOOL_NOT_FOUND
ListTemplateTools     template_type               spare                 +++++++ +++ +++ +++
ListTemplateTools     template_type               missing               ??????? ??? ??? ???  TEMPLATE_TYPE_NOT_FOUND
UpdateTemplateTool    template_tool.id            tool                  !!!!!+! !!+ !!+ !!!
UpdateTemplateTool    template_tool.id            missing               !!!!!?! !!? !!? !!!  TEMPLATE_TOOL_NOT_FOUND
DeleteTemplateTool    id                          tool                  !!!!!+! !!+ !!+ !!!
DeleteTemplateTool    id                          missing               !!!!!?! !!? !!? !!!  TEMPLATE_TOOL_NOT_FOUND
GetTemplateTypeRevision template_type               kind                  +++++++ +++ +++ +++
GetTemplateTypeRevision template_type               missing               ??????? ??? ??? ???  TEMPLATE_TYPE_NOT_FOUND
ListTemplateTypeRevisions template_type               kind                  +++++++ +++ +++ +++
ListTemplateTypeRevisions template_type               missing               ??????? ??? ??? ???  TEMPLATE_TYPE_NOT_FOUND

# Models
CreateModel           -                           -                     !!!!!+! !!+ !!+ !!!
GetModel              id                          model                 +++++++ +++ +++ +++
GetModel              id                          missing               ??????? ??? ??? ???  MODEL_NOT_FOUND
GetModel              openai_id                   gpt                   +++++++ +++ +++ +++
GetModel              openai_id                   missing               ??????? ??? ??? ???  MODEL_NOT_FOUND
ListModels            -                           -                     +++++++ +++ +++ +++
UpdateModel           model.id                    model                 !!!!!+! !!+ !!+ !!!
UpdateModel           model.id                    missing               !!!!!?! !!? !!? !!!  MODEL_NOT_FOUND
DeleteModel           id                          model                 !!!!!+! !!+ !!+ !!!
DeleteModel           id                          missing               !!!!!?! !!? !!? !!!  MODEL_NOT_FOUND
ImportModel           openai_id                   gpt-5.5               !!!!!+! !!+ !!+ !!!
ImportModel           openai_id                   missing               !!!!!?! !!? !!? !!!  OPENAI_MODEL_NOT_FOUND
ListAvailableModels   -                           -                     +++++++ +++ +++ +++
RefreshModels         -                           -                     !!!!!+! !!+ !!+ !!!
ReplaceModel          old_openai_id               gpt                   !!!!!+! !!+ !!+ !!!
ReplaceModel          old_openai_id               missing               !!!!!?! !!? !!? !!!  MODEL_NOT_FOUND
ReplaceModel          old_openai_id               gpt, only validated   !!!!!+! !!+ !!+ !!!
ReplaceModel          new_openai_id               gpt-other             !!!!!+! !!+ !!+ !!!
ReplaceModel          new_openai_id               missing               !!!!!?! !!? !!? !!!  MODEL_NOT_FOUND

# Templates
CreateTemplate        template.user_id            own                   +++++++ !!! +++ !+!
CreateTemplate        template.user_id            none                  +++++++ !!! +++ !+!
CreateTemplate        template.user_id            missing               ??????? !!! ??? !??  USER_NOT_FOUND
CreateTemplate        template.user_id            own, as default       !!!!!+! !!! !!+ !!!
CreateTemplate        template.template_type      kind                  +++++++ !!! +++ !+!
CreateTemplate        template.template_type      missing               ??????? !!! ??? !?!  TEMPLATE_TYPE_NOT_FOUND
CreateTemplate        template.model              gpt                   +++++++ !!! +++ !+!
CreateTemplate        template.model              missing               ??????? !!! ??? !?!  MODEL_NOT_FOUND
CreateTemplate        template.organization_id    none                  +++++++ !!! +++ !+!
CreateTemplate        template.organization_id    house                 ?!+++?? !!! +?? !++  ORGANIZATION_NOT_FOUND
CreateTemplate        template.organization_id    annex                 ????+?? !!! ??? !+?  ORGANIZATION_NOT_FOUND
CreateTemplate        template.organization_id    missing               ??????? !!! ??? !??  ORGANIZATION_NOT_FOUND
CreateTemplate        template.organization_id    house, as default     ?!!!+?? !!! !?? !++  ORGANIZATION_NOT_FOUND
GetTemplate           id                          wide-author           +++++++ +++ +++ +++
GetTemplate           id                          house-template        ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
GetTemplate           id                          house-removed         ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
GetTemplate           id                          annex-template        ????+?? ??? ??? ++?  TEMPLATE_NOT_FOUND
GetTemplate           id                          missing               ??????? ??? ??? ???  TEMPLATE_NOT_FOUND
BatchGetTemplates     ids[0]                      wide-author           +++++++ +++ +++ +++
BatchGetTemplates     ids[0]                      house-template        ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
BatchGetTemplates     ids[0]                      house-removed         ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
BatchGetTemplates     ids[0]                      annex-template        ????+?? ??? ??? ++?  TEMPLATE_NOT_FOUND
BatchGetTemplates     ids[0]                      missing               ??????? ??? ??? ???  TEMPLATE_NOT_FOUND
ListTemplates         template_type               kind                  +++++++ +++ +++ +++
ListTemplates         template_type               missing               +++++++ +++ +++ +++
ListTemplates         model                       gpt                   +++++++ +++ +++ +++
ListTemplates         model                       missing               +++++++ +++ +++ +++
ListTemplates         user_id                     author                +++++++ +++ +++ +++
ListTemplates         user_id                     missing               +++++++ +++ +++ +++
ListTemplates         organization_id             none                  +++++++ +++ +++ +++
ListTemplates         organization_id             house                 ?++++?? ??? +?? +++  ORGANIZATION_NOT_FOUND
ListTemplates         organization_id             annex                 ????+?? ??? ??? ++?  ORGANIZATION_NOT_FOUND
ListTemplates         organization_id             missing               ??????? ??? ??? ???  ORGANIZATION_NOT_FOUND
UpdateTemplate        template.id                 wide-author           !!!+!+! !!+ +!+ !!!
UpdateTemplate        template.id                 wide-admin            !!!!++! !!+ !!+ !+!
UpdateTemplate        template.id                 wide-author, as default !!!!!+! !!+ !!+ !!!
UpdateTemplate        template.id                 wide-default          !!!+!+! !!+ +!+ !!!
UpdateTemplate        template.id                 wide-default, unmade  !!!!!+! !!+ !!+ !!!
UpdateTemplate        template.id                 wide-default, moved   !!!!!+! !!+ !!+ !!!
UpdateTemplate        template.id                 house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 house-template, as default ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 house-default         ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 house-default, unmade ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 house-default, moved  ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
UpdateTemplate        template.id                 missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
UpdateTemplate        template.template_type      spare                 !!!+!+! !!+ +!+ !!!
UpdateTemplate        template.template_type      missing               !!!?!?! !!? ?!? !!!  TEMPLATE_TYPE_NOT_FOUND
UpdateTemplate        template.model              gpt-other             !!!+!+! !!+ +!+ !!!
UpdateTemplate        template.model              missing               !!!?!?! !!? ?!? !!!  MODEL_NOT_FOUND
DeleteTemplate        id                          wide-author           !!!+!+! !!+ +!+ !!!
DeleteTemplate        id                          wide-admin            !!!!++! !!+ !!+ !+!
DeleteTemplate        id                          wide-default          !!!!!+! !!+ !!+ !!!
DeleteTemplate        id                          house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
DeleteTemplate        id                          house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
DeleteTemplate        id                          house-default         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
DeleteTemplate        id                          annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
DeleteTemplate        id                          missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
GetTemplateRevision   template_id                 wide-author           +++++++ +++ +++ +++
GetTemplateRevision   template_id                 house-template        ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
GetTemplateRevision   template_id                 house-removed         ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
GetTemplateRevision   template_id                 annex-template        ????+?? ??? ??? ++?  TEMPLATE_NOT_FOUND
GetTemplateRevision   template_id                 missing               ??????? ??? ??? ???  TEMPLATE_NOT_FOUND
ListTemplateRevisions template_id                 wide-author           +++++++ +++ +++ +++
ListTemplateRevisions template_id                 house-template        ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
ListTemplateRevisions template_id                 house-removed         ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
ListTemplateRevisions template_id                 annex-template        ????+?? ??? ??? ++?  TEMPLATE_NOT_FOUND
ListTemplateRevisions template_id                 missing               ??????? ??? ??? ???  TEMPLATE_NOT_FOUND
DiffTemplateRevisions template_id                 wide-author           +++++++ +++ +++ +++
DiffTemplateRevisions template_id                 house-template        ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
DiffTemplateRevisions template_id                 house-removed         ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
DiffTemplateRevisions template_id                 annex-template        ????+?? ??? ??? ++?  TEMPLATE_NOT_FOUND
DiffTemplateRevisions template_id                 missing               ??????? ??? ??? ???  TEMPLATE_NOT_FOUND
RestoreTemplateRevision template_id                 wide-author           !!!+!+! !!+ +!+ !!!
RestoreTemplateRevision template_id                 wide-admin            !!!!++! !!+ !!+ !+!
RestoreTemplateRevision template_id                 house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
RestoreTemplateRevision template_id                 house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
RestoreTemplateRevision template_id                 annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
RestoreTemplateRevision template_id                 missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
SetTemplateLabel      template_id                 wide-author           !!!+!+! !!+ +!+ !!!
SetTemplateLabel      template_id                 wide-admin            !!!!++! !!+ !!+ !+!
SetTemplateLabel      template_id                 house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
SetTemplateLabel      template_id                 house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
SetTemplateLabel      template_id                 annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
SetTemplateLabel      template_id                 missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
SetTemplateLabel      template_id                 wide-author, production !!!!!+! !!+ !!+ !!!
SetTemplateLabel      template_id                 wide-admin, production !!!!!+! !!+ !!+ !!!
SetTemplateLabel      template_id                 house-template, production ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
SetTemplateLabel      template_id                 annex-template, production ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
DeleteTemplateLabel   template_id                 wide-author           !!!+!+! !!+ +!+ !!!
DeleteTemplateLabel   template_id                 wide-admin            !!!!++! !!+ !!+ !+!
DeleteTemplateLabel   template_id                 house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
DeleteTemplateLabel   template_id                 house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
DeleteTemplateLabel   template_id                 annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
DeleteTemplateLabel   template_id                 missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
DeleteTemplateLabel   template_id                 wide-author, production !!!!!+! !!+ !!+ !!!
DeleteTemplateLabel   template_id                 wide-admin, production !!!!!+! !!+ !!+ !!!
DeleteTemplateLabel   template_id                 house-template, production ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
DeleteTemplateLabel   template_id                 annex-template, production ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
UndeleteTemplate      id                          wide-author           !!!+!+! !!+ +!+ !!!
UndeleteTemplate      id                          wide-admin            !!!!++! !!+ !!+ !+!
UndeleteTemplate      id                          house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
UndeleteTemplate      id                          house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
UndeleteTemplate      id                          annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
UndeleteTemplate      id                          missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
UndeleteTemplate      id                          wide-default          !!!!!+! !!+ !!+ !!!
UndeleteTemplate      id                          house-default         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
UndeleteTemplate      id                          wide-labeled          !!!!!+! !!+ !!+ !!!
DeleteTemplate        id                          wide-labeled          !!!!!+! !!+ !!+ !!!
UndeleteTemplate      id                          house-labeled         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
DeleteTemplate        id                          house-labeled         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
SyncTemplate          id                          wide-author           !!!+!+! !!+ +!+ !!!
SyncTemplate          id                          wide-admin            !!!!++! !!+ !!+ !+!
SyncTemplate          id                          house-template        ?!!++?? !?? +?? !++  TEMPLATE_NOT_FOUND
SyncTemplate          id                          house-removed         ?!!!+?? !?? !?? !++  TEMPLATE_NOT_FOUND
SyncTemplate          id                          annex-template        ????+?? !?? ??? !+?  TEMPLATE_NOT_FOUND
SyncTemplate          id                          missing               ??????? !?? ??? !??  TEMPLATE_NOT_FOUND
RenderTemplate        id                          wide-author           +++++++ +++ +++ +++
RenderTemplate        id                          house-template        ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
RenderTemplate        id                          house-removed         ?++++?? ??? +?? +++  TEMPLATE_NOT_FOUND
RenderTemplate        id                          annex-template        ????+?? ??? ??? ++?  TEMPLATE_NOT_FOUND
RenderTemplate        id                          missing               ??????? ??? ??? ???  TEMPLATE_NOT_FOUND
RenderTemplate        resolve.user_id             own                   +++++++ !!! +++ +++
RenderTemplate        resolve.user_id             none                  +++++++ !!! +++ +++
RenderTemplate        resolve.user_id             missing               ??????? !!! ??? ???  USER_NOT_FOUND
RenderTemplate        resolve.template_type       kind                  +++++++ !!! +++ +++
RenderTemplate        resolve.template_type       missing               ??????? !!! ??? ???  TEMPLATE_TYPE_NOT_FOUND
RenderTemplate        resolve.organization_id     none                  +++++++ !!! +++ +++
RenderTemplate        resolve.organization_id     house                 ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
RenderTemplate        resolve.organization_id     annex                 ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
RenderTemplate        resolve.organization_id     missing               ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND
BatchRenderTemplates  user_id                     own                   +++++++ !!! +++ +++
BatchRenderTemplates  user_id                     none                  +++++++ !!! +++ +++
BatchRenderTemplates  user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
BatchRenderTemplates  template_types[0]           kind                  +++++++ !!! +++ +++
BatchRenderTemplates  template_types[0]           missing               +++++++ !!! +++ +++
BatchRenderTemplates  organization_id             none                  +++++++ !!! +++ +++
BatchRenderTemplates  organization_id             house                 ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
BatchRenderTemplates  organization_id             annex                 ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
BatchRenderTemplates  organization_id             missing               ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND

# Selections
SetSelection          user_id                     own                   +++++++ !!! +++ !++
SetSelection          user_id                     own, platform-wide    +++++++ !!! +++ !+!
SetSelection          user_id                     none                  +++++++ !!! +++ !++
SetSelection          user_id                     missing               ??????? !!! ??? !??  USER_NOT_FOUND
SetSelection          template_type               kind                  +++++++ !!! +++ !++
SetSelection          template_type               missing               ??????? !!! ??? !??  TEMPLATE_TYPE_NOT_FOUND
SetSelection          template_id                 wide-author           +++++++ !!! +++ !++
SetSelection          template_id                 house-template        ?++++?? !!! +?? !++  TEMPLATE_NOT_FOUND
SetSelection          template_id                 house-template, platform-wide ?mmmm?? !!! m?? !m!  TEMPLATE_NOT_FOUND
SetSelection          template_id                 annex-template        ????m?? !!! ??? !m?  TEMPLATE_NOT_FOUND
SetSelection          template_id                 missing               ??????? !!! ??? !??  TEMPLATE_NOT_FOUND
SetSelection          organization_id             none                  +++++++ !!! +++ !+!
SetSelection          organization_id             house                 ?++++?? !!! +?? !++  ORGANIZATION_NOT_FOUND
SetSelection          organization_id             annex                 ????+?? !!! ??? !+?  ORGANIZATION_NOT_FOUND
SetSelection          organization_id             missing               ??????? !!! ??? !??  ORGANIZATION_NOT_FOUND
GetSelection          user_id                     own                   +++++++ !!! +++ +++
GetSelection          user_id                     own, platform-wide    +++++++ !!! +++ +++
GetSelection          user_id                     none                  +++++++ !!! +++ +++
GetSelection          user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
GetSelection          template_type               kind                  +++++++ !!! +++ +++
GetSelection          template_type               missing               ??????? !!! ??? ???  SELECTION_NOT_FOUND
GetSelection          organization_id             none                  +++++++ !!! +++ +++
GetSelection          organization_id             house                 ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
GetSelection          organization_id             annex                 ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
GetSelection          organization_id             missing               ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND
ListSelections        user_id                     own                   +++++++ !!! +++ +++
ListSelections        user_id                     none                  +++++++ !!! +++ +++
ListSelections        user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
ListSelections        organization_id             none                  +++++++ !!! +++ +++
ListSelections        organization_id             house                 ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
ListSelections        organization_id             annex                 ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
ListSelections        organization_id             missing               ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND
DeleteSelection       user_id                     own                   +++++++ !!! +++ !++
DeleteSelection       user_id                     own, platform-wide    +++++++ !!! +++ !+!
DeleteSelection       user_id                     none                  +++++++ !!! +++ !++
DeleteSelection       user_id                     missing               ??????? !!! ??? !??  USER_NOT_FOUND
DeleteSelection       template_type               kind                  +++++++ !!! +++ !++
DeleteSelection       template_type               missing               ??????? !!! ??? !??  SELECTION_NOT_FOUND
DeleteSelection       organization_id             none                  +++++++ !!! +++ !+!
DeleteSelection       organization_id             house                 ?++++?? !!! +?? !++  ORGANIZATION_NOT_FOUND
DeleteSelection       organization_id             annex                 ????+?? !!! ??? !+?  ORGANIZATION_NOT_FOUND
DeleteSelection       organization_id             missing               ??????? !!! ??? !??  ORGANIZATION_NOT_FOUND
ResolveTemplate       user_id                     own                   +++++++ !!! +++ +++
ResolveTemplate       user_id                     none                  +++++++ !!! +++ +++
ResolveTemplate       user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
ResolveTemplate       template_type               kind                  +++++++ !!! +++ +++
ResolveTemplate       template_type               missing               ??????? !!! ??? ???  TEMPLATE_TYPE_NOT_FOUND
ResolveTemplate       organization_id             none                  +++++++ !!! +++ +++
ResolveTemplate       organization_id             house                 ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
ResolveTemplate       organization_id             annex                 ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
ResolveTemplate       organization_id             missing               ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND
BatchResolveTemplates user_id                     own                   +++++++ !!! +++ +++
BatchResolveTemplates user_id                     none                  +++++++ !!! +++ +++
BatchResolveTemplates user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
BatchResolveTemplates template_types[0]           kind                  +++++++ !!! +++ +++
BatchResolveTemplates template_types[0]           missing               +++++++ !!! +++ +++
BatchResolveTemplates organization_id             none                  +++++++ !!! +++ +++
BatchResolveTemplates organization_id             house                 ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
BatchResolveTemplates organization_id             annex                 ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
BatchResolveTemplates organization_id             missing               ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND

# Organizations and their members
CreateOrganization    user_id                     own                   +++++++ !!! +++ !+!
CreateOrganization    user_id                     none                  +++++++ !!! +++ !+!
CreateOrganization    user_id                     missing               ??????? !!! ??? !??  USER_NOT_FOUND
GetOrganization       id                          house                 ?++++?? ??? +?? +++  ORGANIZATION_NOT_FOUND
GetOrganization       id                          annex                 ????+?? ??? ??? ++?  ORGANIZATION_NOT_FOUND
GetOrganization       id                          missing               ??????? ??? ??? ???  ORGANIZATION_NOT_FOUND
ListOrganizations     user_id                     own                   +++++++ !!! +++ +++
ListOrganizations     user_id                     none                  +++++++ !!! +++ +++
ListOrganizations     user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
UpdateOrganization    organization.id             house                 ?!!!+?? !?? !?? !++  ORGANIZATION_NOT_FOUND
UpdateOrganization    organization.id             annex                 ????+?? !?? ??? !+?  ORGANIZATION_NOT_FOUND
UpdateOrganization    organization.id             missing               ??????? !?? ??? !??  ORGANIZATION_NOT_FOUND
DeleteOrganization    id                          house                 ?!!!+?? !?? !?? !++  ORGANIZATION_NOT_FOUND
DeleteOrganization    id                          annex                 ????+?? !?? ??? !+?  ORGANIZATION_NOT_FOUND
DeleteOrganization    id                          missing               ??????? !?? ??? !??  ORGANIZATION_NOT_FOUND
AddMember             member.organization_id      house                 ?!!!!+? !?+ !?+ !!!  ORGANIZATION_NOT_FOUND
AddMember             member.organization_id      annex                 ????!+? !?+ ??+ !!?  ORGANIZATION_NOT_FOUND
AddMember             member.organization_id      missing               ??????? !?? ??? !??  ORGANIZATION_NOT_FOUND
AddMember             member.user_id              recluse               !!!!!+o !o+ !o+ !!!
AddMember             member.user_id              missing               !!!!!?o !o? !o? !!!  USER_NOT_FOUND
GetMember             id                          house-viewer          ?++++?? ??? +?? +++  MEMBER_NOT_FOUND
GetMember             id                          annex-deputy          ????+?? ??? ??? ++?  MEMBER_NOT_FOUND
GetMember             id                          missing               ??????? ??? ??? ???  MEMBER_NOT_FOUND
ListMembers           organization_id             house                 ?++++?? ??? +?? +++  ORGANIZATION_NOT_FOUND
ListMembers           organization_id             annex                 ????+?? ??? ??? ++?  ORGANIZATION_NOT_FOUND
ListMembers           organization_id             missing               ??????? ??? ??? ???  ORGANIZATION_NOT_FOUND
UpdateMember          member.id                   house-viewer          ?!!!+?? !?? !?? !++  MEMBER_NOT_FOUND
UpdateMember          member.id                   house-admin           ?!!!+?? !?? !?? !++  MEMBER_NOT_FOUND
UpdateMember          member.id                   annex-deputy          ????+?? !?? ??? !+?  MEMBER_NOT_FOUND
UpdateMember          member.id                   missing               ??????? !?? ??? !??  MEMBER_NOT_FOUND
RemoveMember          id                          house-viewer          ?+!!+?? !?? !?? !++  MEMBER_NOT_FOUND
RemoveMember          id                          house-member          ?!+!+?? !?? !?? !++  MEMBER_NOT_FOUND
RemoveMember          id                          house-author          ?!!++?? !?? +?? !++  MEMBER_NOT_FOUND
RemoveMember          id                          house-admin           ?!!!+?? !?? !?? !++  MEMBER_NOT_FOUND
RemoveMember          id                          annex-admin           ????+?? !?? ??? !+?  MEMBER_NOT_FOUND
RemoveMember          id                          missing               ??????? !?? ??? !??  MEMBER_NOT_FOUND
InviteMember          invitation.organization_id  house                 ?!!!+?? !?? !?? !++  ORGANIZATION_NOT_FOUND
InviteMember          invitation.organization_id  annex                 ????+?? !?? ??? !+?  ORGANIZATION_NOT_FOUND
InviteMember          invitation.organization_id  missing               ??????? !?? ??? !??  ORGANIZATION_NOT_FOUND
InviteMember          invitation.user_id          recluse               +!!!+oo !oo !oo !++
InviteMember          invitation.user_id          missing               ?!!!?oo !oo !oo !??  USER_NOT_FOUND
AcceptInvitation      id                          own                   +++++++ !?? +++ !+?  INVITATION_NOT_FOUND
AcceptInvitation      id                          house-guest           ????!?? !?? ??? !!!  INVITATION_NOT_FOUND
AcceptInvitation      id                          annex-guest           ????!?? !?? ??? !!?  INVITATION_NOT_FOUND
AcceptInvitation      id                          missing               ??????? !?? ??? !??  INVITATION_NOT_FOUND
DeclineInvitation     id                          own                   +++++++ !?? +++ !+?  INVITATION_NOT_FOUND
DeclineInvitation     id                          house-guest           ????+?? !?? ??? !++  INVITATION_NOT_FOUND
DeclineInvitation     id                          annex-guest           ????+?? !?? ??? !+?  INVITATION_NOT_FOUND
DeclineInvitation     id                          missing               ??????? !?? ??? !??  INVITATION_NOT_FOUND
ListInvitations       user_id                     own                   +++++++ !!! +++ +++
ListInvitations       user_id                     none                  +++++++ !!! +++ +++
ListInvitations       user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
ListInvitations       organization_id             none                  +++++++ !!! +++ +++
ListInvitations       organization_id             house                 ?!!!+?? ??? !?? +++  ORGANIZATION_NOT_FOUND
ListInvitations       organization_id             annex                 ????+?? ??? ??? ++?  ORGANIZATION_NOT_FOUND
ListInvitations       organization_id             missing               ??????? ??? ??? ???  ORGANIZATION_NOT_FOUND

# API keys
CreateApiKey          api_key.user_id             own                   +++++++ !!! +!+ !++
CreateApiKey          api_key.user_id             none                  +++++++ !!! +!+ !++
CreateApiKey          api_key.user_id             missing               ??????? !!! ??? !??  USER_NOT_FOUND
CreateApiKey          api_key.organization_id     none                  +++++++ !!! +!+ !+!
CreateApiKey          api_key.organization_id     house                 ?++++?? !!! +?? !++  ORGANIZATION_NOT_FOUND
CreateApiKey          api_key.organization_id     annex                 ????+?? !!! ??? !+?  ORGANIZATION_NOT_FOUND
CreateApiKey          api_key.organization_id     missing               ??????? !!! ??? !??  ORGANIZATION_NOT_FOUND
GetApiKey             id                          own                   +++++++ ??? +++ ++?  API_KEY_NOT_FOUND
GetApiKey             id                          keyadminhouse         ????+?? ??? ??? +++  API_KEY_NOT_FOUND
GetApiKey             id                          keyadminannex         ????+?? ??? ??? ++?  API_KEY_NOT_FOUND
GetApiKey             id                          missing               ??????? ??? ??? ???  API_KEY_NOT_FOUND
ListApiKeys           user_id                     own                   +++++++ !!! +++ +++
ListApiKeys           user_id                     none                  +++++++ !!! +++ +++
ListApiKeys           user_id                     missing               ??????? !!! ??? ???  USER_NOT_FOUND
UpdateApiKey          api_key.id                  own                   +++++++ !?? +++ !+?  API_KEY_NOT_FOUND
UpdateApiKey          api_key.id                  keyadminhouse         ????+?? !?? ??? !++  API_KEY_NOT_FOUND
UpdateApiKey          api_key.id                  keyadminannex         ????+?? !?? ??? !+?  API_KEY_NOT_FOUND
UpdateApiKey          api_key.id                  own, until 2080       +++++++ !?? +++ !!?  API_KEY_NOT_FOUND
UpdateApiKey          api_key.id                  keyadminchild, until 2060 ????+?? !?? ??? !+?  API_KEY_NOT_FOUND
UpdateApiKey          api_key.id                  keyadminhouse, until 2060 ????+?? !?? ??? !!!  API_KEY_NOT_FOUND
UpdateApiKey          api_key.id                  missing               ??????? !?? ??? !??  API_KEY_NOT_FOUND
RevokeApiKey          id                          own                   +++++++ !?? +++ !+?  API_KEY_NOT_FOUND
RevokeApiKey          id                          keyadminhouse         ????+?? !?? ??? !++  API_KEY_NOT_FOUND
RevokeApiKey          id                          keyadminannex         ????+?? !?? ??? !+?  API_KEY_NOT_FOUND
RevokeApiKey          id                          missing               ??????? !?? ??? !??  API_KEY_NOT_FOUND
RotateApiKey          id                          own                   +++++++ !?? +!+ !+?  API_KEY_NOT_FOUND
RotateApiKey          id                          keyadminhouse         ????+?? !?? ??? !!+  API_KEY_NOT_FOUND
RotateApiKey          id                          keyadminannex         ????+?? !?? ??? !!?  API_KEY_NOT_FOUND
RotateApiKey          id                          keyadminchild         ????+?? !?? ??? !+?  API_KEY_NOT_FOUND
RotateApiKey          id                          missing               ??????? !?? ??? !??  API_KEY_NOT_FOUND

# Changes
WatchChanges          organization_id             none                  +++++++ +++ +++ +++
WatchChanges          organization_id             house                 ?+++++? +++ +?+ +++  ORGANIZATION_NOT_FOUND
WatchChanges          organization_id             annex                 ????++? +++ ??+ ++?  ORGANIZATION_NOT_FOUND
WatchChanges          organization_id             missing               ?????+? +++ ??+ ???  ORGANIZATION_NOT_FOUND
WatchChanges          resource_ids[0]             house-template        +++++++ +++ +++ +++
WatchChanges          resource_ids[0]             missing               +++++++ +++ +++ +++
ListChanges           resource_id                 house-template        +++++++ +++ +++ +++
ListChanges           resource_id                 missing               +++++++ +++ +++ +++
ListChanges           organization_id             none                  +++++++ +++ +++ +++
ListChanges           organization_id             house                 ?+++++? ??+ +?+ +++  ORGANIZATION_NOT_FOUND
ListChanges           organization_id             annex                 ????++? ??+ ??+ ++?  ORGANIZATION_NOT_FOUND
ListChanges           organization_id             missing               ?????+? ??+ ??+ ???  ORGANIZATION_NOT_FOUND

# Usage
RecordUsage           usages[0].user_id           own                   +++++++ !++ +++ !++
RecordUsage           usages[0].user_id           none                  +++++++ !++ +++ !++
RecordUsage           usages[0].user_id           missing               ?????+? !++ ??+ !??  USER_NOT_FOUND
RecordUsage           usages[0].organization_id   none                  +++++++ !++ +++ !+!
RecordUsage           usages[0].organization_id   house                 ?+++++? !++ +?+ !++  ORGANIZATION_NOT_FOUND
RecordUsage           usages[0].organization_id   annex                 ????++? !++ ??+ !+?  ORGANIZATION_NOT_FOUND
RecordUsage           usages[0].organization_id   missing               ?????+? !++ ??+ !??  ORGANIZATION_NOT_FOUND
RecordUsage           usages[0].template_id       wide-author           +++++++ !++ +++ !++
RecordUsage           usages[0].template_id       house-template        +++++++ !++ +++ !++
RecordUsage           usages[0].template_id       annex-template        +++++++ !++ +++ !++
RecordUsage           usages[0].template_id       missing               +++++++ !++ +++ !++
RecordUsage           usages[0].model             gpt                   +++++++ !++ +++ !++
RecordUsage           usages[0].model             missing               +++++++ !++ +++ !++
QueryUsage            user_id                     own                   +++++++ !!+ +++ +++
QueryUsage            user_id                     none                  +++++++ !!+ +++ +++
QueryUsage            user_id                     missing               ?????+? !!+ ??+ ???  USER_NOT_FOUND
QueryUsage            organization_id             none                  +++++++ !!+ +++ +++
QueryUsage            organization_id             house                 ?+++++? ??+ +?+ +++  ORGANIZATION_NOT_FOUND
QueryUsage            organization_id             annex                 ????++? ??+ ??+ ++?  ORGANIZATION_NOT_FOUND
QueryUsage            organization_id             missing               ?????+? ??+ ??+ ???  ORGANIZATION_NOT_FOUND
QueryUsage            template_id                 wide-author           +++++++ !!+ +++ +++
QueryUsage            template_id                 house-template        +++++++ !!+ +++ +++
QueryUsage            template_id                 annex-template        +++++++ !!+ +++ +++
QueryUsage            template_id                 missing               +++++++ !!+ +++ +++
QueryUsage            template_type               kind                  +++++++ !!+ +++ +++
QueryUsage            template_type               missing               +++++++ !!+ +++ +++
QueryUsage            model                       gpt                   +++++++ !!+ +++ +++
QueryUsage            model                       missing               +++++++ !!+ +++ +++
# Records of runs
CreateProcessingRecord record.user_id         own               +++++++ !!! +++ !++
CreateProcessingRecord record.user_id         none              +++++++ !!! +++ !++
CreateProcessingRecord record.user_id         missing           ??????? !!! ??? !??  USER_NOT_FOUND
CreateProcessingRecord record.organization_id none              +++++++ !!! +++ !+!
CreateProcessingRecord record.organization_id house             ?++++?? !!! +?? !++  ORGANIZATION_NOT_FOUND
CreateProcessingRecord record.organization_id annex             ????+?? !!! ??? !+?  ORGANIZATION_NOT_FOUND
CreateProcessingRecord record.organization_id missing           ??????? !!! ??? !??  ORGANIZATION_NOT_FOUND
CreateProcessingRecord record.template_id     wide-author       +++++++ !!! +++ !++
CreateProcessingRecord record.template_id     house-template    ?++++?? !!! +?? !++  TEMPLATE_NOT_FOUND
CreateProcessingRecord record.template_id     annex-template    ????m?? !!! ??? !m?  TEMPLATE_NOT_FOUND
CreateProcessingRecord record.template_id     missing           ??????? !!! ??? !??  TEMPLATE_NOT_FOUND
GetProcessingRecord    id                     wide-of-author    ???+??? ??? +?? ???  PROCESSING_RECORD_NOT_FOUND
GetProcessingRecord    id                     wide-of-admin     ????+?? ??? ??? +++  PROCESSING_RECORD_NOT_FOUND
GetProcessingRecord    id                     house-of-author   ???++?? ??? +?? +++  PROCESSING_RECORD_NOT_FOUND
GetProcessingRecord    id                     house-of-removed  ????+?? ??? ??? +++  PROCESSING_RECORD_NOT_FOUND
GetProcessingRecord    id                     annex-of-admin    ????+?? ??? ??? ++?  PROCESSING_RECORD_NOT_FOUND
GetProcessingRecord    id                     missing           ??????? ??? ??? ???  PROCESSING_RECORD_NOT_FOUND
ListProcessingRecords  user_id                own               +++++++ !!! +++ +++
ListProcessingRecords  user_id                none              +++++++ !!! +++ +++
ListProcessingRecords  user_id                missing           ??????? !!! ??? ???  USER_NOT_FOUND
ListProcessingRecords  organization_id        none              +++++++ !!! +++ +++
ListProcessingRecords  organization_id        house             ?++++?? !!! +?? +++  ORGANIZATION_NOT_FOUND
ListProcessingRecords  organization_id        annex             ????+?? !!! ??? ++?  ORGANIZATION_NOT_FOUND
ListProcessingRecords  organization_id        missing           ??????? !!! ??? ???  ORGANIZATION_NOT_FOUND
ListProcessingRecords  template_id            wide-author       +++++++ !!! +++ +++
ListProcessingRecords  template_id            house-template    +++++++ !!! +++ +++
ListProcessingRecords  template_id            annex-template    +++++++ !!! +++ +++
ListProcessingRecords  template_id            missing           +++++++ !!! +++ +++
UpdateProcessingRecord record.id              wide-of-author    ???+??? !?? +?? !??  PROCESSING_RECORD_NOT_FOUND
UpdateProcessingRecord record.id              wide-of-admin     ????+?? !?? ??? !+!  PROCESSING_RECORD_NOT_FOUND
UpdateProcessingRecord record.id              house-of-author   ???++?? !?? +?? !++  PROCESSING_RECORD_NOT_FOUND
UpdateProcessingRecord record.id              house-of-removed  ????+?? !?? ??? !++  PROCESSING_RECORD_NOT_FOUND
UpdateProcessingRecord record.id              annex-of-admin    ????+?? !?? ??? !+?  PROCESSING_RECORD_NOT_FOUND
UpdateProcessingRecord record.id              missing           ??????? !?? ??? !??  PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord id                     wide-of-author    ???+??? !?? +?? !??  PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord id                     wide-of-admin     ????+?? !?? ??? !+!  PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord id                     house-of-author   ???++?? !?? +?? !++  PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord id                     house-of-removed  ????+?? !?? ??? !++  PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord id                     annex-of-admin    ????+?? !?? ??? !+?  PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord id                     missing           ??????? !?? ??? !??  PROCESSING_RECORD_NOT_FOUND
WatchProcessingRecord  id                     wide-of-author    ???+??? ??? +?? ???  PROCESSING_RECORD_NOT_FOUND
WatchProcessingRecord  id                     wide-of-admin     ????+?? ??? ??? +++  PROCESSING_RECORD_NOT_FOUND
WatchProcessingRecord  id                     house-of-author   ???++?? ??? +?? +++  PROCESSING_RECORD_NOT_FOUND
WatchProcessingRecord  id                     house-of-removed  ????+?? ??? ??? +++  PROCESSING_RECORD_NOT_FOUND
WatchProcessingRecord  id                     annex-of-admin    ????+?? ??? ??? ++?  PROCESSING_RECORD_NOT_FOUND
WatchProcessingRecord  id                     missing           ??????? ??? ??? ???  PROCESSING_RECORD_NOT_FOUND
CancelProcessing       id                     wide-run-of-author   ???+??? !?? +?? !??  PROCESSING_RECORD_NOT_FOUND
CancelProcessing       id                     wide-run-of-admin    ????+?? !?? ??? !+!  PROCESSING_RECORD_NOT_FOUND
CancelProcessing       id                     house-run-of-author  ???++?? !?? +?? !++  PROCESSING_RECORD_NOT_FOUND
CancelProcessing       id                     house-run-of-removed ????+?? !?? ??? !++  PROCESSING_RECORD_NOT_FOUND
CancelProcessing       id                     annex-run-of-admin   ????+?? !?? ??? !+?  PROCESSING_RECORD_NOT_FOUND
CancelProcessing       id                     missing              ??????? !?? ??? !??  PROCESSING_RECORD_NOT_FOUND
RetryProcessing        id                     wide-run-of-author   ???+??? !?? +?? !??  PROCESSING_RECORD_NOT_FOUND
RetryProcessing        id                     wide-run-of-admin    ????+?? !?? ??? !+!  PROCESSING_RECORD_NOT_FOUND
RetryProcessing        id                     house-run-of-author  ???++?? !?? +?? !++  PROCESSING_RECORD_NOT_FOUND
RetryProcessing        id                     house-run-of-removed ????+?? !?? ??? !++  PROCESSING_RECORD_NOT_FOUND
RetryProcessing        id                     annex-run-of-admin   ????+?? !?? ??? !+?  PROCESSING_RECORD_NOT_FOUND
RetryProcessing        id                     missing              ??????? !?? ??? !??  PROCESSING_RECORD_NOT_FOUND
"""

NAMES_NOTHING = {
    ("CreateTemplateType", "template_type.id"): "output only, so it is ignored",
    ("CreateTemplateTool", "template_tool.id"): "output only, so it is ignored",
    ("CreateModel", "model.id"): "output only, so it is ignored",
    ("CreateModel", "model.openai_id"): "is what the model is to be called",
    ("CreateTemplate", "template.id"): "output only, so it is ignored",
    ("CreateTemplate", "template.assistant_id"): "output only, so it is ignored",
    ("CreateOrganization", "organization.id"): "output only, so it is ignored",
    ("AddMember", "member.id"): "output only, so it is ignored",
    ("InviteMember", "invitation.id"): "output only, so it is ignored",
    ("InviteMember", "invitation.inviter_id"): "output only, so it is ignored",
    ("CreateApiKey", "api_key.id"): "output only, so it is ignored",
    ("CreateApiKey", "api_key.parent_id"): "output only, so it is ignored",
    ("RecordUsage", "usages[0].id"): "output only, so it is ignored",
    ("RecordUsage", "usages[0].event_id"): "is what the usage is to be called",
    ("UpdateTemplateTool", "template_tool.template_type"): "immutable, so it is ignored",
    ("UpdateModel", "model.openai_id"): "immutable, so it is ignored",
    ("UpdateTemplate", "template.user_id"): "immutable, so it is ignored",
    ("UpdateTemplate", "template.assistant_id"): "output only, so it is ignored",
    ("UpdateTemplate", "template.organization_id"): "immutable, so it is ignored",
    ("UpdateMember", "member.organization_id"): "immutable, so it is ignored",
    ("UpdateMember", "member.user_id"): "immutable, so it is ignored",
    ("UpdateApiKey", "api_key.user_id"): "immutable, so it is ignored",
    ("UpdateApiKey", "api_key.organization_id"): "immutable, so it is ignored",
    ("UpdateApiKey", "api_key.parent_id"): "output only, so it is ignored",
    ("CreateProcessingRecord", "record.id"): "output only, so it is ignored",
    ("CreateProcessingRecord", "record.openai_file_id"): "is OpenAI's",
    ("CreateProcessingRecord", "record.model"): "is what the caller says that it ran",
    ("CreateProcessingRecord", "record.response_id"): "is OpenAI's",
    ("UpdateProcessingRecord", "record.user_id"): "immutable, so it is ignored",
    ("UpdateProcessingRecord", "record.organization_id"): "immutable, so it is ignored",
    ("UpdateProcessingRecord", "record.openai_file_id"): "immutable, so it is ignored",
    ("UpdateProcessingRecord", "record.template_id"): "immutable, so it is ignored",
    ("UpdateProcessingRecord", "record.model"): "immutable, so it is ignored",
    ("UpdateProcessingRecord", "record.response_id"): "is OpenAI's",
    ("CreateTemplateTool", "template_tool.file_search.vector_store_ids[0]"): "is OpenAI's",
    ("CreateTemplateTool", "template_tool.code_interpreter.file_ids[0]"): "is OpenAI's",
    ("UpdateTemplateTool", "template_tool.file_search.vector_store_ids[0]"): "is OpenAI's",
    ("UpdateTemplateTool", "template_tool.code_interpreter.file_ids[0]"): "is OpenAI's",
}
"""The fields of methods that look like the id of a thing, and why no row is about them."""

OF_ANYBODY = {
    ("AddMember", "member.user_id"): "whoever exists may be made a member",
    ("InviteMember", "invitation.user_id"): "whoever exists may be invited",
    ("RecordUsage", "usages[0].template_id"): "what was used need not exist any more",
    ("RecordUsage", "usages[0].model"): "what was used need not exist any more",
}
"""The fields in which a foreign thing is not as a missing one, and why."""

CODES = {
    "+": ("OK", ""),
    "!": ("PERMISSION_DENIED", "PERMISSION_DENIED"),
    "o": ("NOT_FOUND", "ORGANIZATION_NOT_FOUND"),
    "m": ("FAILED_PRECONDITION", "TEMPLATE_ORGANIZATION_MISMATCH"),
}

KINDS = {
    "user_id": "user",
    "clerk_id": "clerk_id",
    "organization_id": "organization",
    "template_id": "template",
    "USER_NOT_FOUND": "user",
    "ORGANIZATION_NOT_FOUND": "organization",
    "TEMPLATE_NOT_FOUND": "template",
    "MEMBER_NOT_FOUND": "member",
    "API_KEY_NOT_FOUND": "key",
    "INVITATION_NOT_FOUND": "invitation",
    "PROCESSING_RECORD_NOT_FOUND": "record",
}
"""The kinds of things of which some are foreign, by the fields and by the reasons."""

OF_THE_PLATFORM = {
    "TEMPLATE_TYPE_NOT_FOUND",
    "TEMPLATE_TOOL_NOT_FOUND",
    "MODEL_NOT_FOUND",
    "OPENAI_MODEL_NOT_FOUND",
    # A selection is named by a user, a type and an organization.
    "SELECTION_NOT_FOUND",
}
"""The reasons of which no thing is foreign."""

PLACES = {
    "organization": ("house", "annex"),
    "template": ("wide", "house", "annex"),
    "member": ("house", "annex"),
    "key": ("house", "annex"),
    "invitation": ("house", "annex"),
    "record": ("wide", "house", "annex"),
}
"""Where the things of a kind can be, of which each field that names one is tried with all."""


@dataclass(frozen=True)
class Row:
    method: str
    field: str
    thing: str
    variant: str
    outcomes: dict[str, tuple[str, str]]
    """The code and the reason, by the name of the caller."""

    @property
    def kind(self) -> str:
        """What the field names: by its own name, or by how a missing one is answered."""
        last = self.field.split(".")[-1]
        if last in KINDS:
            return KINDS[last]
        kinds = [KINDS[reason] for _, reason in self.outcomes.values() if reason in KINDS]
        return kinds[0] if kinds else ""

    def __str__(self) -> str:
        return f"{self.method}({self.field}={self.thing}{', ' + self.variant if self.variant else ''})"


def _row(line: str) -> Row:
    words = line.split()
    reason = words.pop() if words[-1].isupper() else ""
    names, codes = words[:-4], "".join(words[-4:])
    method, field, thing = names[0], names[1], " ".join(names[2:])
    thing, _, variant = thing.partition(", ")
    meanings = CODES | {"?": ("NOT_FOUND", reason)}
    outcomes = [meanings[code] for code in codes]
    assert ("?" in codes) == bool(reason), line
    return Row(method, field, thing, variant, dict(zip(CALLERS, outcomes, strict=True)))


ROWS = [_row(line) for line in TABLE.splitlines() if line and not line.startswith("#")]

LISTS: dict[str, Callable[[Caller], set[str]]] = {
    "ListUsers": lambda caller: {caller.user} if caller.user else set(USERS),
    "ListTemplates": lambda caller: {id for id in TEMPLATES if organization_of(id) in {"", *caller.organizations}},
    "ListSelections": lambda caller: {f"{name or 'wide'}-{caller.user}" for name in ["", *caller.organizations]},
    "ListOrganizations": lambda caller: set(caller.organizations),
    "ListInvitations": lambda caller: set() if caller.is_limited else {f"guild-{caller.user}"},
    "ListApiKeys": lambda caller: {
        id
        for id, (user, _, limit) in KEYS.items()
        if user == caller.user and (not caller.is_limited or limit == "house")
    },
    "ListProcessingRecords": lambda caller: {
        id for id, user in RECORDS.items() if user == caller.user and organization_of(id) in {"", *caller.organizations}
    },
}
"""The ids that a list answers to each caller whom it answers anything, without a filter."""
